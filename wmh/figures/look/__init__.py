"""A quick look at images, in one convention: left of the picture is the subject's left (L)."""

from wmh.figures.look.browse import browse
from wmh.figures.look.overview import overview
from wmh.figures.look.sheets import montage, outline, overlay
from wmh.figures.look.slices import (
    SIDES,
    draw_errors,
    draw_labels,
    draw_outline,
    draw_slice,
    fullest_slice,
    head_box,
    in_regions,
    region_colours,
    spread_slices,
)

__all__ = [
    "SIDES",
    "browse",
    "draw_errors",
    "draw_labels",
    "draw_outline",
    "draw_slice",
    "fullest_slice",
    "head_box",
    "in_regions",
    "montage",
    "outline",
    "overlay",
    "overview",
    "region_colours",
    "spread_slices",
]
