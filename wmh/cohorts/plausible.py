"""Tests that a person's images are what their names say: a FLAIR and a T1 of one upright head.

The MNI152 template is registered to the head, upright, upside down and back to front. How well it
fits shows whether there is a brain, and which way up it is. The intensities under the template's
tissues show the contrast: grey matter is darker than white matter on a T1, and about as bright on a
FLAIR. Fit is measured by mutual information at 8 mm. Each threshold lies midway between the values
of ten people's scans and those of images that are wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache

import nibabel as nib
import numpy as np
from scipy import ndimage

from wmh.atlas.brain import align_coarsely, refine, rough_brain
from wmh.atlas.grids import interpolate
from wmh.atlas.regions import mni_grey_matter, mni_t1, mni_white_matter
from wmh.cohorts.align import WRONG_HEADER_MM, measure_offset, raise_without_overlap
from wmh.images import Image, ImageError, to_ras

SMALLEST_VIEW_MM = 60.0
"""An image smaller than this along any axis shows too little to register the template to it."""
LEAST_FIT = 0.36
"""Least mutual information with the template. Real heads reach 0.57, a bottle 0.19, noise 0.01."""
MUCH_BETTER = 1.1
"""A head counts as turned over if it fits so many times better than upright. Real heads fit 1.2 to
1.8 times better upright."""
TURNS = {
    "upside down": np.diag([1.0, 1.0, -1.0]),
    "back to front": np.diag([1.0, -1.0, 1.0]),
    "upside down and back to front": np.diag([1.0, -1.0, -1.0]),
}
LARGEST_TILT = 20.0
"""Largest angle in degrees between head and slices. The networks' regions do not change at 8
degrees; at 40 they do."""
LEAST_COMMON = 0.3
"""Least mutual information of T1 and FLAIR where they fit best; for one head it is 0.6 or more."""
T1_GREY, FLAIR_GREY = 0.97, 0.87
"""Largest ratio of grey to white matter on a T1, and smallest on a FLAIR. Real T1s have 0.75 to
0.89, real FLAIRs 0.96 to 1.03."""
SWAPPED = 0.04
"""T1 and FLAIR count as exchanged if the T1's ratio exceeds the FLAIR's by more than this. In real
pairs it is lower by 0.11."""
LEAST_SEEN = 0.9
"""Least share of the brain's white matter that an image must show; whole brains show all of it."""
FEWEST_VALUES = 16
"""An image with fewer different intensities is a mask or a label image."""
SHORTEST, LONGEST = 0.65, 1.2
"""Smallest and largest ratio of a brain's length to the template's, along the axes where they
differ most. Real brains have 0.75 to 1.05."""
ENHANCED, MOST_ENHANCED = 1.4, 0.02
"""A T1 counts as taken with contrast agent if more than this share of the deep brain is so many
times brighter than white matter."""
DEEP_MM = 10.0
"""Depth below the brain's surface from which it counts as deep."""
SEED = 0


def notices(images: Mapping[str, Image], in_slices: bool = True) -> list[str]:
    """Notices about whatever looks wrong in a person's images (by modality), a sentence each.

    The list is empty if all looks as it should. A tilted head is noticed only with ``in_slices``,
    because it matters only to networks that work on slices. Raises :class:`ImageError` where no
    brain is found, and for a T1 that does not hold the head in the FLAIR.
    """
    first, other = images.get("FLAIR"), images.get("T1")
    name = "FLAIR" if first else "T1"
    said, moved = [], np.eye(4)
    if first and other:
        raise_without_overlap(other, first)
        if np.array_equal(first.data, other.data):
            said.append(f"{other.path}: the T1 is the same image as the FLAIR, {first.path}")
        elif not _too_small(first) and not _too_small(other):
            rigid = measure_offset(other, first, SEED)
            moved = rigid.matrix
            if rigid.common < LEAST_COMMON:
                said.append(
                    f"{other.path}: the T1 does not seem to show the same head as {first.path}"
                )
            elif rigid.offset_mm > WRONG_HEADER_MM:
                said.append(
                    f"{other.path}: by the headers the T1 lies {rigid.offset_mm:.0f} mm off the "
                    "FLAIR; look at the two together, and register them (in a study, "
                    "cohort.register_t1: true)"
                )
    for image in images.values():
        if len(np.unique(image.data[::3, ::3, ::3])) < FEWEST_VALUES:
            said.append(f"{image.path}: holds only a few values; it seems to be a mask, not a scan")
    first = first or other
    if _too_small(first):
        view = " x ".join(f"{mm:.0f}" for mm in first.voxel_size * first.data.shape)
        return [
            *said,
            f"{first.path}: the {name} covers only {view} mm; if it shows a whole head, the voxel "
            "size in its header is wrong, and all volumes will be wrong",
        ]
    brain = rough_brain(first)
    if _too_small(brain):
        return said
    turn, score, to_head = _fit(brain)
    if score < LEAST_FIT:
        remedy = f"Look at it; it may show another part of the body, or not be a {name}"
        raise ImageError(first.path, f"no brain found in the {name}", remedy)
    if turn:
        said.append(
            f"{first.path}: by its header the head in the {name} is {turn}; check the orientation "
            "in the header"
        )
    lengths = np.linalg.svd(to_head[:3, :3], compute_uv=False)
    if not turn and not SHORTEST <= lengths.min() <= lengths.max() <= LONGEST:
        said.append(
            f"{first.path}: along its axes the brain is {lengths.min():.1f} to {lengths.max():.1f} "
            "times as long as that of the MNI152 template; check the voxel size in the header, "
            "because all volumes depend on it"
        )
    tilt = _tilt(first, to_head)
    if in_slices and not turn and tilt > LARGEST_TILT:
        said.append(
            f"{first.path}: the head is tilted by {tilt:.0f} degrees in its slices, but the "
            "networks were trained on upright heads; reslice the image along the head's own axes"
        )
    places = {name: to_head} | ({"T1": moved @ to_head} if other else {})
    return [*said, *_contrasts(images, places)]


def say(notices: Iterable[str]) -> None:
    """Print notices to standard error, one per line."""
    for notice in notices:
        print(f"wmh: {notice}", file=sys.stderr)


def _too_small(image: Image) -> bool:
    return bool((image.voxel_size * image.data.shape).min() < SMALLEST_VIEW_MM)


def _fit(brain: Image) -> tuple[str | None, float, np.ndarray]:
    """Register the template to the brain, in each orientation.

    Returns how the head is turned over (None if it is upright), the mutual information at 8 mm, and
    the affine (4, 4) from template to world mm.
    """
    upright, *others = align_coarsely(brain, SEED, list(TURNS.values()))
    turned, (score, matrix) = None, upright
    for turn, other in zip(TURNS, others, strict=True):
        if other[0] > max(MUCH_BETTER * upright[0], score):
            turned, (score, matrix) = turn, other
    return turned, score, refine(brain, matrix, SEED)


def _tilt(image: Image, to_head: np.ndarray) -> float:
    """Angle in degrees between the registered template and the axes of an image."""
    u, _, vt = np.linalg.svd(np.linalg.inv(to_ras(image).affine[:3, :3]) @ to_head[:3, :3])
    return float(np.rad2deg(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1))))


def _contrasts(images: Mapping[str, Image], places: Mapping[str, np.ndarray]) -> list[str]:
    """Notices of contrasts that do not fit a FLAIR or a T1."""
    points, white, grey, fluid, deep = _template_tissue()
    said, darkness = [], {}
    for modality, to_head in places.items():
        image = images[modality]
        values = interpolate(image, nib.affines.apply_affine(to_head, points))
        seen = values > 0
        if (share := np.mean(seen[white])) < LEAST_SEEN:
            said.append(
                f"{image.path}: the {modality} shows only {share:.0%} of the brain's white matter"
            )
        if min((seen & tissue).sum() for tissue in (white, grey, fluid)) < 100:
            continue
        bright = float(np.median(values[white & seen]))
        darkness[modality] = float(np.median(values[grey & seen])) / bright
        if np.median(values[fluid & seen]) > bright:
            said.append(
                f"{image.path}: fluid is bright on the {modality}, as on a T2-weighted image"
            )
        elif modality == "T1" and np.mean(values[deep & seen] > ENHANCED * bright) > MOST_ENHANCED:
            said.append(f"{image.path}: the T1 looks as if taken with contrast agent")
    flair, t1 = darkness.get("FLAIR", 1.0), darkness.get("T1", 0.8)
    if "FLAIR" in darkness and "T1" in darkness and t1 > flair + SWAPPED:
        return [
            f"{images['T1'].path}: the T1 looks like a FLAIR, and the FLAIR "
            f"({images['FLAIR'].path}) like a T1; they seem to be exchanged"
        ]
    if flair < FLAIR_GREY:
        said.append(f"{images['FLAIR'].path}: the FLAIR looks like a T1")
    if t1 > T1_GREY:
        said.append(f"{images['T1'].path}: the T1 looks like a FLAIR")
    return said


@cache
def _template_tissue() -> tuple[np.ndarray, ...]:
    """Points (n, 3) of the template's brain in mm, and masks (n,): white, grey, fluid, deep."""
    t1, white, grey = mni_t1(2), mni_white_matter(2), mni_grey_matter(2)
    voxels = np.argwhere(t1.data > 0)[::4]
    at = tuple(voxels.T)
    depth = ndimage.distance_transform_edt(t1.data > 0) * 2
    white, grey = white.data[at], grey.data[at]
    return (
        nib.affines.apply_affine(t1.affine, voxels),
        white > 0.9,
        grey > 0.8,
        white + grey < 0.1,
        depth[at] > DEEP_MM,
    )
