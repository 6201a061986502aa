"""The fit that published labels imply, and the JHU atlas as heads displaced by known affines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from wmh.atlas.atlases import JHU_WHITE_MATTER_FILE, Atlas, jhu
from wmh.atlas.grids import interpolate, isotropic, sample, voxel_centres
from wmh.atlas.regions import REGION_LABELS
from wmh.atlas.registration import Fit, Transform, white_matter_overlap
from wmh.images import Image, load_image

MOST_DEGREES, MOST_MM, SCALES = 30, 40, (0.85, 1.15)
TILT = Rotation.from_euler("xyz", (15, -10, 12), degrees=True).as_matrix()
VOXEL_MM = (1, 1, 3)
BLURS_MM = (8.0, 4.0)
POINTS = 300
"""Points per region that must find their label in the atlas."""


def displaced_heads(mirror: Path, count: int) -> Iterator[tuple[Image, Image]]:
    """White matter (0 to 1) and labels of the JHU atlas, first undisplaced, then ``count`` times.

    Displacement k is drawn with seed k: up to 30 degrees about each axis, 40 mm along it, scales of
    0.85 to 1.15. All lie on a grid of 1 x 1 x 3 mm voxels that is tilted against the world.
    """
    white, labels = load_image(mirror / JHU_WHITE_MATTER_FILE), jhu(mirror).labels
    for seed in range(count + 1):
        yield _on_oblique_grid(white, labels, _displacement(seed) if seed else np.eye(4))


def implied_fit(published: Image, atlas: Atlas, ours: Fit) -> Fit:
    """The affine that best explains published labels by the atlas's, found from the labels alone.

    It maximises the share of points, region by region, that find their own label, blurred by 8 and
    then by 4 mm, at their place in the atlas; it starts from our fit.
    """
    generator, matrix = np.random.default_rng(0), ours.transform.matrix
    points = {}
    for label in REGION_LABELS:
        if len(inside := voxel_centres(published, published.data == label)):
            drawn = generator.choice(len(inside), min(POINTS, len(inside)), replace=False)
            points[label] = inside[drawn]
    centre = np.eye(4)
    centre[:3, 3] = np.concatenate(list(points.values())).mean(axis=0)
    for blur in BLURS_MM:
        maps = {label: _blurred(atlas.labels, label, blur) for label in points}

        def at(step: np.ndarray, matrix: np.ndarray = matrix) -> np.ndarray:
            change = np.vstack([step.reshape(3, 4) * (0.01, 0.01, 0.01, 1), np.zeros(4)])
            return matrix @ centre @ (np.eye(4) + change) @ np.linalg.inv(centre)

        def missed(step: np.ndarray, at=at, maps=maps) -> float:
            found = [
                interpolate(maps[label], nib.affines.apply_affine(at(step), inside)).mean()
                for label, inside in points.items()
            ]
            return -float(np.mean(found))

        matrix = at(minimize(missed, np.zeros(12), method="L-BFGS-B", options={"eps": 0.01}).x)
    white = replace(published, data=(published.data > 0).astype(np.uint8))
    transform = Transform(matrix)
    overlap = white_matter_overlap(white, atlas.cerebral_white_matter, transform)
    return replace(ours, transform=transform, white_matter_dice=overlap)


def _blurred(labels: Image, label: int, blur_mm: float) -> Image:
    one = isotropic(replace(labels, data=(labels.data == label).astype(np.float32)), 3.0)
    return replace(one, data=gaussian_filter(one.data, blur_mm / 3.0))


def _displacement(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    angles = generator.uniform(-MOST_DEGREES, MOST_DEGREES, 3)
    shift = generator.uniform(-MOST_MM, MOST_MM, 3)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return nib.affines.from_matvec(turn @ np.diag(generator.uniform(*SCALES, 3)), shift)


def _on_oblique_grid(white: Image, labels: Image, matrix: np.ndarray) -> tuple[Image, Image]:
    """White matter and labels moved by a matrix, resampled to the tilted grid around them."""
    inside = nib.affines.apply_affine(matrix, voxel_centres(white, white.data > 0.5))
    along = inside @ TILT
    low, high = along.min(axis=0) - 10, along.max(axis=0) + 10
    shape = tuple(np.ceil((high - low) / VOXEL_MM).astype(int))
    grid = nib.affines.from_matvec(TILT * VOXEL_MM, TILT @ low)
    empty = Image(np.zeros(shape, dtype=np.float32), grid)
    points = nib.affines.apply_affine(np.linalg.inv(matrix), voxel_centres(empty))
    return (
        replace(empty, data=interpolate(white, points).reshape(shape)),
        replace(empty, data=sample(labels, points).reshape(shape)),
    )
