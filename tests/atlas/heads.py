"""Small heads for the atlas's tests: the MNI152 template, moved, on coarse oblique grids."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from wmh.atlas.grids import interpolate, sample, voxel_centres
from wmh.atlas.regions import built_in_atlas, mni_t1, mni_white_matter
from wmh.images import Image


def displacement(
    angles: tuple[float, float, float] = (0, 0, 0),
    shift: tuple[float, float, float] = (0, 0, 0),
    scale: tuple[float, float, float] = (1, 1, 1),
) -> np.ndarray:
    """A matrix (4, 4) that scales, turns by Euler angles (degrees) and shifts (mm)."""
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return nib.affines.from_matvec(turn @ np.diag(scale), shift)


def moved(matrix: np.ndarray) -> tuple[Image, Image, Image]:
    """T1, white matter and true labels of the template moved by a matrix (MNI to subject).

    They lie on an oblique grid of 3 x 3 x 4 mm, whose array axes run left, posterior, superior.
    """
    axes = Rotation.from_euler("xyz", (8, -5, 6), degrees=True).as_matrix() * (-3, -3, 4)
    shape = (72, 84, 58)
    middle = nib.affines.apply_affine(matrix, (0, -18, 5))
    grid = nib.affines.from_matvec(axes, middle - axes @ (np.array(shape) - 1) / 2)
    empty = Image(np.zeros(shape, dtype=np.float32), grid)
    points = nib.affines.apply_affine(np.linalg.inv(matrix), voxel_centres(empty))
    t1 = Image(interpolate(mni_t1(2), points).reshape(shape), grid)
    white = Image(interpolate(mni_white_matter(2), points).reshape(shape), grid)
    labels = Image(sample(built_in_atlas(2), points).reshape(shape), grid)
    return t1, white, labels
