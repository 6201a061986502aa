"""Tubed (thickened) skeletons of the truth, computed before training for skeleton recall."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

TUBE_PIXELS = 2
"""Pixels by which the skeleton is widened on each side."""


def tubed_skeleton(labels: np.ndarray) -> np.ndarray:
    """The skeleton of each class, widened to a tube that stays inside the class.

    ``labels`` is a uint8 array of two or three dimensions. The result is one of the same shape,
    with a class's label on its tube and 0 elsewhere. Thinning removes some small round objects;
    these are kept whole, because every lesion counts.

    Source: Kirchhoff et al. 2024 (arXiv 2404.03010), algorithm 1.
    """
    tubes = np.zeros_like(labels)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            tubes[box][_tube(labels[box] == label)] = label
    return tubes


def tubed_skeletons_of_slices(labels: np.ndarray) -> np.ndarray:
    """The tubed skeletons of slices (N, H, W), computed slice by slice."""
    return np.stack([tubed_skeleton(image) for image in labels])


def _tube(mask: np.ndarray) -> np.ndarray:
    """The widened skeleton of one class's mask."""
    from skimage.morphology import skeletonize  # slow to import, and only this loss needs it

    padded = np.pad(mask, 1)
    skeleton = skeletonize(padded) > 0
    pieces, _ = ndimage.label(padded, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    lost = np.setdiff1d(pieces[padded], pieces[skeleton])
    skeleton |= np.isin(pieces, lost)
    tube = ndimage.binary_dilation(skeleton, iterations=TUBE_PIXELS) & padded
    return tube[(slice(1, -1),) * mask.ndim]
