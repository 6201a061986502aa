"""Maps on the MNI152 brain, drawn by nilearn: a value a region, or a value a voxel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from wmh.atlas.regions import built_in_atlas, mni_t1
from wmh.figures.look.slices import mark_sides
from wmh.figures.style import BLACK

CUTS_MM = (-18, -4, 10, 24, 38, 52)
"""World heights of the axial cuts shown, mm."""

RESOLUTION_MM = 2

FAINTEST = 1e-6
"""What is below this is not drawn."""


def paint_regions(values: Mapping[int, float]) -> nib.Nifti1Image:
    """The atlas with each region's value (0 or more) in its voxels, 0 where there is none.

    A value of 0 becomes a tiny one, so that the region is drawn.
    """
    atlas = built_in_atlas(RESOLUTION_MM)
    table = np.zeros(37, dtype=np.float32)
    for label, value in values.items():
        table[label] = max(value, 2 * FAINTEST) if np.isfinite(value) else 0
    return nib.Nifti1Image(table[atlas.data], atlas.affine)


def draw_brain_map(
    axes: Axes, image: nib.Nifti1Image, colours: str | Colormap, limits: tuple[float, float]
) -> None:
    """Draw axial cuts of a map in MNI space over the template, in the place of ``axes``.

    The layout of the figure must be settled before (:func:`settle_layout`), since nilearn puts
    axes of its own where ``axes`` stands. What is 0 is not drawn; what lies beyond ``limits`` has
    the colour of the nearer one.
    """
    from nilearn.plotting import plot_anat  # takes seconds to import, and few callers need it

    figure = axes.get_figure(root=True)
    place = axes.get_window_extent().transformed(figure.transFigure.inverted())
    display = plot_anat(
        _template(),
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
    values = image.get_fdata(dtype=np.float32)
    lowest = limits[0] + 1e-4 * (limits[1] - limits[0])  # at the limit itself it would be clear
    shown = np.where(values >= FAINTEST, values.clip(lowest, limits[1]), 0)
    if shown.any():
        display.add_overlay(
            nib.Nifti1Image(shown, image.affine),
            threshold=min(FAINTEST, lowest / 2),
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
        )
    for height, cut in display.axes.items():
        mark_sides(cut.ax, BLACK)
        cut.ax.text(0, 0.94, f"z = {height:g}", transform=cut.ax.transAxes, fontsize=5)


def settle_layout(figure: Figure) -> None:
    """Let constrained layout place all axes once, then leave them there."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def colour_bar(axes: Axes, colours: str | Colormap, limits: tuple[float, float], name: str) -> None:
    """A colour bar that fills ``axes``, labelled with the quantity and its unit."""
    scale = ScalarMappable(Normalize(*limits), colours)
    bar = axes.get_figure(root=True).colorbar(scale, cax=axes)
    bar.set_label(name)
    bar.outline.set_visible(False)


@cache
def _template() -> nib.Nifti1Image:
    template = mni_t1(RESOLUTION_MM)
    return nib.Nifti1Image(template.data, template.affine)
