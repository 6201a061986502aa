"""The brain in a T1-weighted image of a whole head or of a brain without skull.

Tissue as bright as brain is separated from scalp, eyes and neck at thin connections, because skull
and meninges lie between them. Then the MNI152 template, which shows only the brain, is registered
to the remaining tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from wmh.atlas.grids import bounding_box, crop, isotropic, sample, voxel_centres
from wmh.atlas.regions import mni_t1
from wmh.atlas.registration import descend, mutual_information
from wmh.images import Image, ImageError

FINE_MM, MIDDLE_MM, COARSE_MM = 2.0, 4.0, 8.0
FEWEST_VOXELS = 4
"""Fewest voxels along each axis at the coarsest resolution; fewer cannot be smoothed."""
HEAD_HEIGHT_MM = 150.0
"""Height from the top of the head to below the cerebellum; everything lower is neck."""
DEEP_MM = 45.0
"""Within this distance of the middle of the head there is only brain."""
TISSUE = (0.5, 1.3)
"""Range of grey and white matter in multiples of white matter's intensity; fat is brighter."""
BRIDGES_MM = (3.0, 4.0, 5.0, 6.0, 8.0)
"""Radii of the connections between brain and surroundings that are cut, in this order."""
LARGEST_TISSUE_ML = 1600.0
"""Cutting stops when the remaining tissue is smaller than this."""
KEPT_SHARE = 0.9
"""A cut is rejected if less than this share of the deep tissue remains: it has cut the brain."""
PITCHES = (-25, 0, 25)
"""Starting angles in degrees by which the head is tipped forward or back against the template."""
SURROUNDINGS_MM = 8.0
"""Margin around the template's brain within which images are compared."""


def rough_brain(t1: Image) -> Image:
    """Grey and white matter on voxels of 2 mm; everything else is 0.

    A little of the neck's muscle may remain. Raises :class:`ImageError` if there is no head.
    """
    head = isotropic(crop(replace(t1, data=np.maximum(t1.data, 0)), 0), FINE_MM)
    foreground = head.data > 0.2 * np.percentile(head.data, 98)
    deep = _deep(head, foreground)
    white = np.percentile(head.data[deep & foreground], 90)
    tissue = (head.data > TISSUE[0] * white) & (head.data < TISSUE[1] * white)
    depth = ndimage.distance_transform_edt(tissue) * FINE_MM
    brain = tissue
    for radius in BRIDGES_MM:
        core = _largest_part(depth > radius, deep)
        box = bounding_box(core, int(radius / FINE_MM) + 2)
        near = np.zeros_like(core)
        near[box] = ndimage.distance_transform_edt(~core[box]) * FINE_MM <= radius + FINE_MM
        if np.count_nonzero(near & tissue & deep) < KEPT_SHARE * np.count_nonzero(tissue & deep):
            break
        brain = near & tissue
        if np.count_nonzero(brain) * head.voxel_ml < LARGEST_TISSUE_ML:
            break
    return replace(head, data=np.where(brain, head.data, 0))


def align_template(brain: Image, seed: int) -> np.ndarray:
    """The affine (4, 4) from the MNI152 template's world to that of :func:`rough_brain`, RAS mm."""
    return refine(brain, align_coarsely(brain, seed)[0][1], seed)


def align_coarsely(
    brain: Image, seed: int, turned_over: Sequence[np.ndarray] = ()
) -> list[tuple[float, np.ndarray]]:
    """The best mutual information of brain and template at 8 mm, and its affine, per orientation.

    The first is for the upright template, the best of all pitches; the others are for the template
    turned over by each of ``turned_over`` (3, 3).
    """
    coarse = isotropic(brain, COARSE_MM)
    if min(coarse.data.shape) < FEWEST_VOXELS:
        remedy = f"At least {FEWEST_VOXELS * COARSE_MM:.0f} mm of brain are needed along each axis"
        raise ImageError(brain.path, "shows too little of a head", remedy)
    template, around = _template(COARSE_MM)
    centre, template_centre = (
        nib.affines.apply_affine(image.affine, ndimage.center_of_mass(image.data))
        for image in (brain, template)
    )

    def fit(turn: np.ndarray) -> tuple[float, np.ndarray]:
        start = nib.affines.from_matvec(turn, centre - turn @ template_centre)
        matrix = descend(template, coarse, start, seed, around)
        return mutual_information(template, coarse, matrix, around), matrix

    pitches = Rotation.from_euler("x", np.array(PITCHES)[:, None], degrees=True).as_matrix()
    upright = max(map(fit, pitches), key=lambda found: found[0])  # the first, if several are equal
    return [upright, *map(fit, turned_over)]


def refine(brain: Image, start: np.ndarray, seed: int) -> np.ndarray:
    """Refine a coarse affine from template to brain at 4 mm."""
    template, around = _template(MIDDLE_MM)
    return descend(template, isotropic(brain, MIDDLE_MM), start, seed, around)


def _deep(head: Image, foreground: np.ndarray) -> np.ndarray:
    """Voxels near the middle of the upper head."""
    points = voxel_centres(head, foreground)
    if not len(points):
        raise ImageError(head.path, "shows no head", "Check that this is a T1-weighted image")
    top = np.percentile(points[:, 2], 99.5)
    centre = points[points[:, 2] > top - HEAD_HEIGHT_MM].mean(axis=0)
    distance = np.linalg.norm(voxel_centres(head) - centre, axis=1)
    return (distance < DEEP_MM).reshape(head.data.shape)


def _largest_part(mask: np.ndarray, within: np.ndarray) -> np.ndarray:
    """The connected part of a mask that has most voxels ``within``."""
    parts, _ = ndimage.label(mask)
    counts = np.bincount(parts[within & mask], minlength=2)
    return parts == max(int(np.argmax(counts)), 1)


@cache
def _template(spacing_mm: float) -> tuple[Image, Image]:
    """Tissue of the MNI152 T1 template on cubic voxels, and a mask of the brain with its margin."""
    t1 = mni_t1(2)
    white = np.percentile(t1.data[t1.data > 0], 90)
    tissue = replace(t1, data=np.where(t1.data > TISSUE[0] * white, t1.data, 0))
    template = isotropic(crop(tissue, 2 * SURROUNDINGS_MM), spacing_mm)
    brain = sample(t1, voxel_centres(template)).reshape(template.data.shape) > 0
    distance = ndimage.distance_transform_edt(~brain) * spacing_mm
    return template, replace(template, data=distance <= SURROUNDINGS_MM)
