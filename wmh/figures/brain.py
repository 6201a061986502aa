"""Maps on the MNI152 brain, drawn by nilearn: a value per region, or a value per voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from wmh.atlas.regions import ALL_LABELS, built_in_atlas, mni_t1
from wmh.figures import slices, style
from wmh.images import Image

CUTS_MM = (-18, -4, 10, 24, 38, 52)
"""Heights of the axial cuts in MNI152 space, in mm."""

RESOLUTION_MM = 2

FAINTEST = 1e-6
"""Values below this are not drawn."""


@dataclass(frozen=True)
class ColourScale:
    """The values at the two ends of a colour map, the quantity with its unit, and the map."""

    limits: tuple[float, float]
    quantity: str
    colours: str = "magma_r"


def paint_regions(values: Mapping[int, float]) -> Image:
    """The atlas with each region's value (0 or more) in its voxels, and 0 elsewhere.

    A value of 0 is replaced by a tiny one, so that the region is drawn.
    """
    atlas = built_in_atlas(RESOLUTION_MM)
    table = np.zeros(len(ALL_LABELS), dtype=np.float32)
    for label, value in values.items():
        table[label] = max(value, 2 * FAINTEST) if np.isfinite(value) else 0
    return Image(table[atlas.data], atlas.affine)


def lay_out_maps(
    part: Figure | SubFigure,
    titles: Mapping[str, str],
    scale: ColourScale,
    width_ratios: Sequence[float] = (10, 0.12),
    beside: Sequence[str] = (),
    weight: str = "normal",
) -> dict[str, Axes]:
    """Names of panels: a row per map, by name; one colour bar (``bar``); and those ``beside``."""
    rows = [[name, "bar", *beside] for name in titles]
    panels = part.subplot_mosaic(rows, width_ratios=width_ratios)
    draw_colour_bar(panels["bar"], scale)
    for name, title in titles.items():
        panels[name].axis("off")
        panels[name].set_title(title, fontweight=weight)
    return panels


def draw_maps(panels: Mapping[str, Axes], images: Mapping[str, Image], scale: ColourScale) -> None:
    """Draw maps into their panels; to be called after everything else in the figure is drawn.

    Constrained layout first places all axes and is then switched off, because nilearn puts its own
    axes at the position of a panel.
    """
    figure = panels["bar"].get_figure(root=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for name, image in images.items():
        draw_brain_map(panels[name], image, scale)


def draw_brain_map(axes: Axes, image: Image, scale: ColourScale) -> None:
    """Draw axial cuts of a map in MNI space over the template, at the position of ``axes``.

    Values of 0 are not drawn; values beyond the scale get the colour of its nearest end.
    """
    from nilearn.plotting import plot_anat  # takes seconds to import, and few callers need it

    figure, template = axes.get_figure(root=True), mni_t1(RESOLUTION_MM)
    place = axes.get_window_extent().transformed(figure.transFigure.inverted())
    display = plot_anat(
        nib.Nifti1Image(template.data, template.affine),
        display_mode="z",
        cut_coords=list(CUTS_MM),
        axes=place.bounds,
        figure=figure,
        annotate=False,
        draw_cross=False,
        black_bg=False,
        colorbar=False,
        threshold=FAINTEST,
        vmin=-0.3,  # a pale template under the colours
        vmax=1.1,
    )
    low, high = scale.limits
    lowest = low + 1e-4 * (high - low)  # a value at the limit itself would be transparent
    shown = np.where(image.data >= FAINTEST, image.data.clip(lowest, high), 0)
    if shown.any():
        display.add_overlay(
            nib.Nifti1Image(shown, image.affine),
            threshold=min(FAINTEST, lowest / 2),
            cmap=scale.colours,
            vmin=low,
            vmax=high,
        )
    for height, cut in display.axes.items():
        slices.mark_sides(cut.ax, style.BLACK)
        cut.ax.text(0, 0.94, f"z = {height:g}", transform=cut.ax.transAxes, fontsize=5)


def draw_colour_bar(axes: Axes, scale: ColourScale) -> None:
    """A colour bar that fills ``axes``, labelled with the quantity and its unit."""
    colours = ScalarMappable(Normalize(*scale.limits), scale.colours)
    bar = axes.get_figure(root=True).colorbar(colours, cax=axes)
    bar.set_label(scale.quantity)
    bar.outline.set_visible(False)
