"""Draw axial slices: in grey, with labels in colour, lesions outlined, errors marked.

All pictures are axial and in one convention, printed on each: the left of the picture is the
subject's left (L). Images may come in any orientation; they are shown along the closest
right-anterior-superior axes, slice for slice as they were measured.
"""

from __future__ import annotations

import colorsys

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, to_rgba

from wmh.atlas.regions import LEFT_LABELS
from wmh.figures.style import GREY, VERMILION, YELLOW
from wmh.images import Image, rough_head, to_ras

SIDES = "The left of each picture is the subject's left (L)."

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = YELLOW, VERMILION, "#3fb5ff"

Box = tuple[slice, slice]


def region_colours() -> ListedColormap:
    """A colour for each region label 0..36; 0 is transparent, left and right share a hue.

    The 17 hues are spaced by the golden ratio, so that neighbouring labels differ. Left regions are
    light, right ones dark, the two rest labels grey.
    """
    hues = [0.02 + i * 0.618034 % 1 for i in range(len(LEFT_LABELS))]
    left = [colorsys.hls_to_rgb(hue, 0.70, 0.80) for hue in hues]
    right = [colorsys.hls_to_rgb(hue, 0.42, 0.75) for hue in hues]
    rest = [(0.75, 0.75, 0.75), (0.5, 0.5, 0.5)]
    colours = [to_rgba(colour) for colour in left + right + rest]
    return ListedColormap([(0.0, 0.0, 0.0, 0.0), *colours], name="regions")


def fullest_slice(lesions: Image) -> int:
    """The axial slice (index along the superior axis) with most lesion (label 1)."""
    return int(np.count_nonzero(to_ras(lesions).data == 1, axis=(0, 1)).argmax())


def in_regions(lesions: Image, regions: Image) -> Image:
    """The lesions inside labelled regions, and so in the brain; if there are none, all lesions."""
    labelled = regions.data > 0
    return Image(lesions.data * labelled, lesions.affine) if labelled.any() else lesions


def spread_slices(mask: Image, count: int) -> list[int]:
    """``count`` axial slices spread evenly over the extent of ``mask``, without its ends.

    There are fewer if the mask spans fewer slices; for an empty mask, it is the middle slice.
    """
    filled = np.flatnonzero(to_ras(mask).data.any(axis=(0, 1)))
    if filled.size == 0:
        return [to_ras(mask).data.shape[2] // 2]
    inner = np.linspace(filled[0], filled[-1], count + 2)[1:-1]
    return sorted({int(z) for z in np.round(inner)})


def head_box(image: Image, margin_mm: float = 5.0) -> Box:
    """The in-plane box around the head, as slices of the right and the anterior axis.

    A row belongs to the head if 2 % of its voxels are in the rough head mask.
    """
    ras = to_ras(head_mask(image))
    box = []
    for axis in (0, 1):
        share = ras.data.mean(axis=(1 - axis, 2))
        inside = np.flatnonzero(share > 0.02)
        margin = round(margin_mm / ras.voxel_size[axis])
        first, last = (inside[0], inside[-1]) if inside.size else (0, len(share) - 1)
        box.append(slice(max(0, first - margin), last + 1 + margin))
    return box[0], box[1]


def head_mask(image: Image) -> Image:
    """Rough head mask; see :func:`wmh.images.rough_head`."""
    return Image(rough_head(image.data).astype(np.uint8), image.affine)


def height_over_width(image: Image) -> float:
    """Ratio of the sides (in mm) of the in-plane box around the head."""
    ras = to_ras(image)
    across, along = ras.data[*head_box(image), 0].shape * ras.voxel_size[:2]
    return float(along / across)


def grey_window(image: Image) -> tuple[float, float]:
    """The values shown in black and white: 0 and the 99.8th percentile of the middle of the head.

    Only the middle counts, because fat in the scalp and the skull base is brighter than brain on
    T1.
    """
    ras = to_ras(image)
    inner_half = []
    for part in (*head_box(image), slice(0, ras.data.shape[2])):
        quarter = (part.stop - part.start) // 4
        inner_half.append(slice(part.start + quarter, part.stop - quarter))
    middle = ras.data[*inner_half]
    bright = middle[middle > 0.1 * np.percentile(ras.data, 99)]
    return 0.0, float(np.percentile(bright, 99.8)) if bright.size else 1.0


def draw_slice(
    axes: Axes,
    image: Image,
    z: int,
    box: Box | None = None,
    window: tuple[float, float] | None = None,
) -> None:
    """Draw axial slice ``z`` of ``image`` in grey, with L and R at its sides.

    ``window`` is the image's :func:`grey_window`; give it when you draw many slices of an image.
    """
    low, high = window or grey_window(image)
    axes.imshow(_plane(image, z, box), cmap="gray", vmin=low, vmax=high, aspect=_aspect(image))
    axes.autoscale(False)  # so that outlines drawn later do not widen the picture
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    mark_sides(axes)


def draw_labels(axes: Axes, labels: Image, z: int, box: Box | None = None) -> None:
    """Draw region labels over a slice, each in its colour."""
    plane = _plane(labels, z, box)
    picture = region_colours()(plane.astype(int))
    axes.imshow(picture, alpha=0.6 * (plane > 0), aspect=_aspect(labels))


def draw_outline(axes: Axes, mask: Image, z: int, colour: str, box: Box | None = None) -> None:
    """Outline lesion (label 1) in slice ``z``; draws nothing if there is none."""
    plane = np.pad(_plane(mask, z, box) == 1, 1)
    edges = []
    for axis, along in ((0, (1, 0)), (1, (0, 1))):  # edges between two rows, and two columns
        row, column = np.nonzero(np.diff(plane, axis=axis))
        end = np.stack([column, row], axis=1) - 0.5
        edges.extend(np.stack([end - along, end], axis=1))
    lines = LineCollection(edges, colors=colour, linewidths=0.7, capstyle="projecting")
    axes.add_collection(lines, autolim=False)


def draw_errors(
    axes: Axes,
    truth: Image,
    prediction: Image,
    z: int,
    box: Box | None = None,
    other_pathology: bool = False,
) -> None:
    """Colour lesion voxels found (yellow), wrongly found (red) and missed (blue).

    Voxels of other pathology (label 2 of the truth) are left out, as every measure does, or shown
    in grey if ``other_pathology``.
    """
    true, found = _plane(truth, z, box), _plane(prediction, z, box) == 1
    picture = np.zeros((*true.shape, 4))
    picture[(true == 1) & found] = to_rgba(TRUE_POSITIVE)
    picture[(true == 0) & found] = to_rgba(FALSE_POSITIVE)
    picture[(true == 1) & ~found] = to_rgba(FALSE_NEGATIVE)
    if other_pathology:
        picture[true == 2] = to_rgba(GREY)
    axes.imshow(picture, aspect=_aspect(truth))


def mark_sides(axes: Axes, colour: str = "white") -> None:
    """Print L and R at the sides of an axial picture."""
    for x, text, align in ((0.03, "L", "left"), (0.97, "R", "right")):
        axes.text(x, 0.03, text, transform=axes.transAxes, color=colour, fontsize=5, ha=align)


def _plane(image: Image, z: int, box: Box | None) -> np.ndarray:
    """One axial slice as a picture, shape (anterior, right)."""
    return to_ras(image).data[*(box or (slice(None), slice(None))), z].T


def _aspect(image: Image) -> float:
    size = to_ras(image).voxel_size
    return float(size[1] / size[0])
