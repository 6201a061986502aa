"""Sheets of slices for a quick look: images side by side, regions in colour, masks outlined."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from wmh.figures.look.slices import (
    draw_labels,
    draw_outline,
    draw_slice,
    head_box,
    head_mask,
    height_over_width,
    spread_slices,
)
from wmh.figures.style import (
    BLUE,
    DOUBLE_COLUMN,
    MM,
    SKY,
    VERMILION,
    YELLOW,
    StyledFigure,
    new_figure,
    styled,
)
from wmh.images import Image, resample_to


@styled
def montage(
    images: Mapping[str, Image], lesions: Image | None = None, count: int = 6
) -> StyledFigure:
    """One row of ``count`` slices an image, all at the same places; lesions outlined if given."""
    reference = next(iter(images.values()))
    shown = {name: resample_to(image, reference) for name, image in images.items()}
    slices = spread_slices(lesions if lesions is not None else head_mask(reference), count)
    figure, rows = _grid(reference, len(shown), len(slices))
    for (name, image), row in zip(shown.items(), rows, strict=True):
        for axes, z in zip(row, slices, strict=True):
            draw_slice(axes, image, z, head_box(reference))
            if lesions is not None:
                draw_outline(axes, lesions, z, VERMILION, head_box(reference))
        _name_row(row[0], name)
    return figure


@styled
def overlay(
    image: Image, labels: Image, lesions: Image | None = None, count: int = 6
) -> StyledFigure:
    """``count`` slices with the region labels in colour, lesions outlined if given."""
    slices = spread_slices(labels, count)
    figure, (row,) = _grid(image, 1, len(slices))
    for axes, z in zip(row, slices, strict=True):
        draw_slice(axes, image, z, head_box(image))
        draw_labels(axes, labels, z, head_box(image))
        if lesions is not None:
            draw_outline(axes, lesions, z, "white", head_box(image))
    return figure


@styled
def outline(image: Image, masks: Mapping[str, Image], count: int = 6) -> StyledFigure:
    """``count`` slices with each mask outlined in a colour of its own, named in a legend."""
    slices = spread_slices(next(iter(masks.values())), count)
    figure, (row,) = _grid(image, 1, len(slices), legend=True)
    colours = dict(zip(masks, (VERMILION, SKY, YELLOW, BLUE), strict=False))
    for axes, z in zip(row, slices, strict=True):
        draw_slice(axes, image, z, head_box(image))
        for name, mask in masks.items():
            draw_outline(axes, mask, z, colours[name], head_box(image))
    for name, colour in colours.items():
        row[0].plot([], [], color=colour, label=name)
    figure.legend(loc="outside upper left", ncols=len(masks))
    return figure


def _grid(image: Image, rows: int, columns: int, legend: bool = False):
    """A figure of two columns' width with a picture of the head's shape in each cell."""
    height_mm = rows * height_over_width(image) * DOUBLE_COLUMN / MM / columns
    figure = new_figure(DOUBLE_COLUMN, height_mm + 4 * legend)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _name_row(axes: Axes, name: str) -> None:
    axes.text(0.03, 0.97, name, transform=axes.transAxes, color="white", va="top", fontsize=6)
