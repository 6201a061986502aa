"""A brain map with one value per region: axial cuts of the atlas with numbered regions.

It is drawn as SVG, so that it stays sharp and small, and each region can have a title.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image as Picture
from scipy import ndimage

from wmh.atlas.regions import REGION_LABELS, built_in_atlas, mni_t1, region_name
from wmh.pages import as_webp, number, webp_address

CUTS_MM = (-18, -4, 10, 24, 38, 52)
"""Heights of the axial cuts in MNI152 space, in mm."""

BOX = (slice(20, 178), slice(18, 215))
"""The part of the 1 mm template that holds the brain, along its right and anterior axes."""

ROOM_MM = 3.6
"""A region's number is printed only if a disc of this radius fits inside the region."""

DRAWN = Path(__file__).with_name("brain_map.json")
"""File with the cuts drawn by :func:`keep_cuts`, because drawing takes seconds."""

COLOURS = colormaps["YlOrRd"]
SHADES = 6
"""Steps of the printed scale."""


def paint(values: Mapping[int, float], unit: str) -> dict[int, tuple[str, str, str]]:
    """Title, fill colour and text colour of each region for its value (0 or more, or NaN)."""
    top = scale_top(values)
    return {
        label: (f"{label} {region_name(label)}: {number(value, 1)} {unit}", *_colour(value, top))
        for label, value in values.items()
    }


def scale_top(values: Mapping[int, float]) -> float:
    """The upper end of the colour scale: the largest value, rounded up to 1, 2 or 5 times ten."""
    largest = max((v for v in values.values() if np.isfinite(v)), default=0.0)
    if largest <= 1:
        return 1.0
    power = 10.0 ** np.floor(np.log10(largest))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= largest))


def shades(top: float) -> list[tuple[str, float]]:
    """Colours of the printed scale with the value each stands for, lowest first."""
    values = np.linspace(0, top, SHADES)
    return [(_colour(value, top)[0], float(value)) for value in values]


def frame_mm() -> tuple[int, int]:
    """Width and height of a cut in mm."""
    return BOX[0].stop - BOX[0].start, BOX[1].stop - BOX[1].start


def _colour(value: float, top: float) -> tuple[str, str]:
    """Fill colour for a value, and the text colour that is readable on it."""
    if not np.isfinite(value):
        return "#d9d9d9", "#1a1a1a"
    shade = COLOURS(min(value / top, 1) * 0.9)
    bright = 0.2126 * shade[0] ** 2.2 + 0.7152 * shade[1] ** 2.2 + 0.0722 * shade[2] ** 2.2
    return to_hex(shade), "#1a1a1a" if bright > 0.18 else "#ffffff"


@cache
def kept_cuts() -> list[dict]:
    """The axial cuts as :func:`draw_cut` drew them."""
    return json.loads(DRAWN.read_text())


def keep_cuts() -> None:
    """Draw every cut and keep it in the package. Must be run again after a change of the atlas."""
    DRAWN.write_text(json.dumps([draw_cut(height) for height in CUTS_MM]) + "\n")


def draw_cut(height_mm: int) -> dict[str, object]:
    """Draw one axial cut of the atlas: a grey picture of the template, and the regions in it.

    Each region has its label, its outline in mm as an SVG path, and the position of its number
    (None if the region is too small for it).
    """
    atlas, template = built_in_atlas(1), mni_t1(1)
    z = round((height_mm - atlas.affine[2, 3]) / atlas.affine[2, 2])
    labels, grey = (image.data[*BOX, z].T[::-1] for image in (atlas, template))  # front first
    # dark tissue on a pale background, as on paper
    pale = 255 - 90 * np.clip(grey / np.percentile(grey[grey > 0], 99), 0, 1)
    picture = Picture.fromarray(pale.astype(np.uint8))
    shapes = [_shape(labels == label, label) for label in REGION_LABELS if (labels == label).any()]
    picture = webp_address(as_webp(picture, 75))
    return {"height_mm": height_mm, "picture": picture, "shapes": shapes}


def _shape(mask: np.ndarray, label: int) -> dict[str, object]:
    from skimage import measure  # slow to import, and needed only to draw the cuts anew

    smooth = np.pad(ndimage.gaussian_filter(mask.astype(float), 0.8), 1)
    contours = [
        measure.approximate_polygon(contour, 0.3) for contour in measure.find_contours(smooth, 0.5)
    ]
    outlines = [contour[:-1] - 0.5 for contour in contours if len(contour) > 3]
    points = [" ".join(f"{column:.1f} {row:.1f}" for row, column in line) for line in outlines]
    path = "".join(f"M{line}Z" for line in points)
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    place = (column + 0.5, row + 0.5) if depth.max() >= ROOM_MM else None
    return {"label": label, "path": path, "place": place}
