"""What simulated people are made from: the MNI152 template, or what is like it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import nibabel as nib
import numpy as np
from scipy import ndimage

from wmh.atlas.regions import built_in_atlas, mni_grey_matter, mni_t1, mni_white_matter

MARGIN = 22
"""Voxels of 2 mm around the template, so that distances reach out to the skin."""


@dataclass(frozen=True)
class Reference:
    """What people are made from, on a 1 mm grid; distances in mm on a padded 2 mm grid.

    ``affine`` takes voxels to MNI152 mm. ``white``, ``grey`` and ``brain`` are fractions, 0 to 1
    or, as uint8, 0 to 255; ``regions`` holds the labels 0 to 36, spread outwards. ``csf`` and
    ``around`` (labels of what surrounds the brain, :data:`wmh.phantom.heads.AROUND`) are
    known of real heads and None for the template.
    """

    affine: np.ndarray
    white: np.ndarray
    grey: np.ndarray
    brain: np.ndarray
    regions: np.ndarray
    from_ventricles: np.ndarray
    from_brain: np.ndarray
    csf: np.ndarray | None = None
    around: np.ndarray | None = None


@cache
def template() -> Reference:
    """The template, prepared once a process: fractions, ventricles, regions spread outwards."""
    white, grey = mni_white_matter(1).data, mni_grey_matter(1).data
    brain = (mni_t1(1).data > 0).astype(np.float32)
    ventricles = _lateral_ventricles(brain - white - grey, mni_t1(1).affine)
    white, grey = _without_grey_rim(white, grey, ventricles)
    return Reference(
        affine=mni_t1(1).affine,
        white=white,
        grey=grey,
        brain=ndimage.gaussian_filter(brain, 0.7),
        regions=spread_regions(built_in_atlas(1).data),
        from_ventricles=distance_from(ventricles),
        from_brain=distance_from(brain > 0, closed=5),
    )


def spread_regions(labels: np.ndarray) -> np.ndarray:
    """Labels on a 1 mm grid, spread outwards at 2 mm: every voxel has its own or the nearest."""
    coarse = labels[::2, ::2, ::2]
    nearest = ndimage.distance_transform_edt(
        coarse == 0, return_distances=False, return_indices=True
    )
    spread = coarse[tuple(nearest)]
    spread = spread.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in labels.shape)]
    return np.where(labels > 0, labels, spread)


def distance_from(mask: np.ndarray, closed: int = 0) -> np.ndarray:
    """Signed distance in mm from a mask on a 1 mm grid, on a padded 2 mm grid.

    The mask is ``closed`` first, over so many voxels of 2 mm.
    """
    coarse = np.pad(mask[::2, ::2, ::2], MARGIN)
    return _signed_distance(ndimage.binary_closing(coarse, iterations=closed) if closed else coarse)


def _lateral_ventricles(csf: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Mask of the lateral ventricles: fluid connected to the middle of either side's body."""
    parts, _ = ndimage.label(csf > 0.5)
    middles = nib.affines.apply_affine(np.linalg.inv(affine), [(-12, -20, 25), (12, -20, 25)])
    return np.isin(parts, [parts[tuple(np.round(m).astype(int))] for m in middles])


def _without_grey_rim(
    white: np.ndarray, grey: np.ndarray, ventricles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Undo the thin grey rim that partial volume has left between ventricle and white matter."""
    near = ndimage.binary_dilation(ventricles, iterations=6)
    rim = np.where(near, grey - ndimage.grey_opening(grey, size=5), 0)
    return white + np.where(white > 0.35, rim, 0), grey - rim


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance in mm to the surface of a mask on a 2 mm grid, negative inside, smoothed."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    distance = 2 * (outside - inside) - np.where(mask, -1, 1)
    return ndimage.gaussian_filter(distance.astype(np.float32), 0.7)
