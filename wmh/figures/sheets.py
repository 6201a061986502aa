"""Sheets of slices for a quick look, and the page about one scan with the burden of each region."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from wmh.atlas.regions import LEFT_LABELS, REGION_LABELS, REGIONS, mirror_labels
from wmh.figures import slices, style
from wmh.images import Image, resample_to, to_ras

SLICES = 6
HEADER_MM, BARS_MM = 11, 66


@style.styled
def montage(images: Mapping[str, tuple[Image, Image]], count: int) -> style.StyledFigure:
    """One row of ``count`` slices per image, each image with its own lesions outlined.

    All rows show the same slices: those with lesions of the first image, or, if it has none, slices
    spread over the head.
    """
    reference, first = next(iter(images.values()))
    places = slices.spread_slices(first if first.data.any() else reference, count)
    box = slices.head_box(reference)
    figure, rows = _grid(reference, len(images), len(places))
    for (name, (image, lesions)), row in zip(images.items(), rows, strict=True):
        shown = resample_to(image, reference)
        for axes, z in zip(row, places, strict=True):
            slices.draw_slice(axes, shown, z, box)
            slices.draw_outline(axes, lesions, z, style.VERMILION, box)
        corner = {"transform": row[0].transAxes, "va": "top"}
        row[0].text(0.03, 0.97, name, color="white", fontsize=6, **corner)
    return figure


@style.styled
def overlay(image: Image, labels: Image, count: int) -> style.StyledFigure:
    """``count`` slices with the region labels in colour."""
    places, box = slices.spread_slices(labels, count), slices.head_box(image)
    figure, (row,) = _grid(image, 1, len(places))
    for axes, z in zip(row, places, strict=True):
        slices.draw_slice(axes, image, z, box)
        slices.draw_labels(axes, labels, z, box)
    return figure


def _grid(image: Image, rows: int, columns: int) -> tuple[style.StyledFigure, np.ndarray]:
    """A figure of two columns' width with a picture of the head's shape in each cell."""
    height_mm = rows * slices.height_over_width(image) * style.DOUBLE_COLUMN / columns
    figure = style.new_figure(height_mm, pad=0.01, space=0)
    return figure, figure.subplots(rows, columns, squeeze=False)


@style.styled
def overview(
    images: Mapping[str, Image],
    lesions: Image,
    regions: Image,
    burden: pd.DataFrame,
    note: str,
) -> style.StyledFigure:
    """Draw the page of one scan.

    ``images`` are the given images by modality, on one grid with ``lesions`` (mask) and ``regions``
    (labels 0 to 36). ``burden`` is the table of :func:`wmh.analysis.burden.regional_burden`;
    ``note`` names the model and the images that it was given.
    """
    places = telling_slices(lesions, regions, SLICES)
    shape = slices.height_over_width(next(iter(images.values())))
    row_mm = style.DOUBLE_COLUMN / len(places) * shape
    heights = [HEADER_MM, row_mm * (len(images) + 1), BARS_MM]
    figure = style.new_figure(sum(heights), pad=0.015, space=0)
    header, pictures, bars = figure.subfigures(3, 1, height_ratios=heights)
    total_ml = float(np.count_nonzero(lesions.data == 1) * lesions.voxel_ml)
    _print_header(header, total_ml, note)
    _draw_pictures(pictures, images, lesions, regions, places)
    _draw_burden(bars, burden, total_ml)
    return figure


def telling_slices(lesions: Image, regions: Image, count: int) -> list[int]:
    """Axial slices to show: those that divide the lesion volume in the brain into equal parts.

    If lesions are on fewer slices than ``count``, slices spread over the regions are added.
    """
    inside = slices.in_regions(lesions, regions)
    below = np.count_nonzero(to_ras(inside).data, axis=(0, 1)).cumsum()
    parts = (np.arange(count) + 0.5) / count * below[-1]
    chosen = set(np.searchsorted(below, parts).tolist()) if below[-1] else set()
    others = [z for z in slices.spread_slices(regions, count) if z not in chosen]
    return sorted(chosen | set(others[: count - len(chosen)]))


def _print_header(header: SubFigure, total_ml: float, note: str) -> None:
    header.text(0.01, 0.92, f"White matter lesions: {total_ml:.1f} ml", fontsize=11, va="top")
    header.text(0.01, 0.32, note, fontsize=7, color=style.GREY, va="center")
    warning = {"fontsize": 9, "fontweight": "bold", "color": style.VERMILION}
    header.text(0.99, 0.92, "Research use only: not for diagnosis", ha="right", va="top", **warning)
    sides = "left of each picture is the subject's left (L)"
    header.text(0.99, 0.32, sides, fontsize=7, color=style.GREY, ha="right", va="center")


def _draw_pictures(
    pictures: SubFigure,
    images: Mapping[str, Image],
    lesions: Image,
    regions: Image,
    places: list[int],
) -> None:
    first, first_window = next(iter(images.values())), None
    box = slices.head_box(first)
    grid = pictures.subplots(len(images) + 1, len(places), squeeze=False)
    for (name, image), row in zip(images.items(), grid, strict=False):
        window = slices.grey_window(image)
        first_window = first_window or window
        for axes, z in zip(row, places, strict=True):
            slices.draw_slice(axes, image, z, box, window)
            slices.draw_outline(axes, lesions, z, style.VERMILION, box)
        row[0].set_ylabel(f"{name}\nlesions outlined")
    for axes, z in zip(grid[-1], places, strict=True):
        slices.draw_slice(axes, first, z, box, first_window)
        slices.draw_labels(axes, regions, z, box)
        slices.draw_outline(axes, lesions, z, "white", box)
    grid[-1, 0].set_ylabel("Regions\nlesions in white")


def _draw_burden(bars: SubFigure, burden: pd.DataFrame, total_ml: float) -> None:
    """Lesion volume and share of each region, left and right of a common axis."""
    table = burden.set_index("region").loc[REGION_LABELS]
    volume = table["lesion_ml"]
    right = mirror_labels()
    order = sorted(LEFT_LABELS, key=lambda left: -(volume[left] + volume[right[left]]))
    panels = bars.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.06})
    _butterfly(panels[0], volume, order)
    _butterfly(panels[1], table["percent_of_region"], order)
    panels[0].set_title("Lesion volume (ml)")
    panels[1].set_title("Share of the region that is lesion (%)")
    panels[0].set_yticks(range(len(order)), [REGIONS[left - 1].structure for left in order])
    panels[0].set_ylim(len(order) - 0.4, -1.7)  # room for the words above
    outside = max(0.0, total_ml - volume.sum())
    panels[0].set_xlabel(f"not shown: {outside:.2f} ml of lesion outside the 34 regions")


def _butterfly(axes: Axes, values: pd.Series, order: list[int]) -> None:
    """Bars of left regions to the left, of right ones to the right, in the left's ``order``."""
    colours = slices.region_colours()
    for sign, labels in ((-1, order), (1, mirror_labels()[order])):
        lengths = sign * values[labels].fillna(0).to_numpy()
        axes.barh(range(len(order)), lengths, height=0.75, color=colours(labels))
    farthest = max(float(values.max()), 1e-3) * 1.05
    axes.set_xlim(-farthest, farthest)
    axes.axvline(0, color=style.GREY, lw=0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.tick_params("y", length=0)
    axes.spines["left"].set_visible(False)
    for x, text in ((0.25, "left"), (0.75, "right")):
        axes.text(x, 0.99, text, transform=axes.transAxes, ha="center", va="top", color=style.GREY)
