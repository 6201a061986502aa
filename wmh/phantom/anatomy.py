"""The anatomy of a simulated head: a reference, deformed, on a scanner's native grid.

The reference is the MNI152 template, or one of twenty real people's whole heads
(:mod:`wmh.phantom.references`). A random affine and a smooth invertible deformation, with
ventricles of varying size, make a person of it. The template is an average of many people.
Therefore its tissue fractions are sharpened, and folds are drawn into the cortex.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from wmh.cohorts.scanners import Scanner
from wmh.phantom.fields import FineGrid, by_planes, enlarge, on_every_second, smooth_field
from wmh.phantom.references import MARGIN, Reference

OBLIQUENESS_DEGREES = {
    "utrecht_philips_3t": (20.0, 6.0, 6.0),
    "singapore_siemens_3t": (14.0, 2.0, 4.0),
    "amsterdam_ge_3t": (0.0, 0.0, 0.0),
    "amsterdam_ge_1p5t": (3.0, 8.0, 3.0),
    "amsterdam_philips_3t": (0.0, 0.0, 0.0),
    "various": (8.0, 4.0, 4.0),
}
"""Standard deviation of the slices' tilt in the scanner about its x, y and z axes."""

NEAR_MM = 6.0
"""Beyond this distance from the template's brain, no voxel contains brain."""

PART_MM, MOST_PARTS = 1.0, 3
"""Wanted edge length of the parts of a native voxel, and their largest number along an axis."""


@dataclass(frozen=True)
class Anatomy:
    """One person's head on a fine grid; arrays have its fine shape and are float32 unless noted.

    ``white``, ``grey`` and ``csf`` are fractions that add up to the brain's share of the voxel.
    ``mni`` (3, x, y, z) is the template position in mm. ``from_ventricles`` and ``from_brain`` are
    signed distances in template mm, negative inside. ``regions`` (uint8) are the labels at the
    centres of the box's native voxels, defined everywhere. ``around`` (uint8) are labels of the
    brain's surroundings, or None if unknown.
    """

    grid: FineGrid
    white: np.ndarray
    grey: np.ndarray
    csf: np.ndarray
    mni: np.ndarray
    from_ventricles: np.ndarray
    from_brain: np.ndarray
    regions: np.ndarray
    around: np.ndarray | None

    @property
    def kind(self) -> str:
        """The reference the person was made from: ``template`` or ``heads``."""
        return "template" if self.around is None else "heads"


def draw_anatomy(
    generator: np.random.Generator,
    reference: Reference,
    scanner: Scanner,
    coarsening: int,
    margin_mm: float,
) -> Anatomy:
    """Draw a person's head on a scanner's grid.

    ``coarsening`` divides the in-plane resolution; ``margin_mm`` is the margin around the brain.
    """
    native, head = _native_affine(generator, scanner, coarsening)
    grid = _box_around_brain(native, head, scanner, coarsening, margin_mm)
    positions = _reference_positions(generator, grid, head, reference)  # its voxels (3, x, y, z)
    linear, offset = reference.affine[:3, :3], reference.affine[:3, 3].reshape(3, 1, 1, 1)
    turned = positions if np.array_equal(linear, np.eye(3)) else np.tensordot(linear, positions, 1)
    mni = (turned + offset.astype(np.float32)).astype(np.float32)

    def sample_labels(labels: np.ndarray, at: np.ndarray | list) -> np.ndarray:
        return ndimage.map_coordinates(labels, at, order=0, mode="nearest")

    def sample_distance(values: np.ndarray) -> np.ndarray:
        def at(*positions: np.ndarray) -> np.ndarray:
            padded = np.stack(positions) / 2 + MARGIN
            return ndimage.map_coordinates(values, padded, order=1, mode="nearest")

        return on_every_second(at, positions)

    from_ventricles = sample_distance(reference.from_ventricles)
    from_brain = sample_distance(reference.from_brain)
    near = from_brain < (NEAR_MM if reference.csf is None else np.inf)
    near_positions = positions[:, near]

    def sample(values: np.ndarray) -> np.ndarray:
        found = np.zeros(grid.fine_shape, dtype=np.float32)
        found[near] = ndimage.map_coordinates(
            values, near_positions, np.float32, order=1, mode="nearest"
        )
        return found / np.float32(255) if values.dtype == np.uint8 else found

    fractions = [sample(reference.white), sample(reference.grey)]
    if reference.csf is None:
        cortex = on_every_second(_cortex_weight, mni, from_ventricles)
        fractions = _sharpen(generator, grid, *fractions, sample(reference.brain), cortex)
    else:
        fractions.append(sample(reference.csf))
    return Anatomy(
        grid,
        *fractions,
        mni=mni,
        from_ventricles=from_ventricles,
        from_brain=from_brain,
        regions=sample_labels(reference.regions, [grid.centres(p) for p in positions]),
        around=None if reference.around is None else sample_labels(reference.around, positions),
    )


def _native_affine(
    generator: np.random.Generator, scanner: Scanner, coarsening: int
) -> tuple[np.ndarray, np.ndarray]:
    """Affines of the native grid (voxel to world) and of the head (MNI to world), in mm.

    The slices are tilted in the scanner; the head is almost straight in the slices.
    """
    tilt = _rotation(np.array(OBLIQUENESS_DEGREES[scanner.name]) * generator.standard_normal(3))
    voxel = np.array(scanner.voxel_size) * (coarsening, coarsening, 1)
    axes = tilt @ np.diag(voxel * (-1, -1, 1))  # array axes left, posterior, superior
    isocentre = generator.uniform(-15, 15, 3)
    middle = (np.array(_coarse_shape(scanner, coarsening)) - 1) / 2
    native = nib.affines.from_matvec(axes, isocentre - axes @ middle)

    lie = _rotation(generator.normal(0, (5.0, 3.0, 3.0)))
    size = np.diag(generator.normal(1.0, 0.04) * generator.normal(1.0, 0.03, 3))
    shear = np.eye(3) + np.triu(generator.normal(0, 0.02, (3, 3)), 1)
    linear = tilt @ lie @ shear @ size
    reach = scanner.shape[2] * scanner.voxel_size[2] / 2
    lift = max(0.0, reach - 95) * generator.uniform(0.6, 1.0)  # a long field shows the neck
    centre = np.array([0, -18, 5])  # the middle of the brain in MNI152
    offset = generator.normal((0, 0, lift), (3, 4, 3))
    return native, nib.affines.from_matvec(linear, isocentre + tilt @ offset - linear @ centre)


def _rotation(degrees: np.ndarray) -> np.ndarray:
    return nib.eulerangles.euler2mat(*np.radians(degrees)[::-1])


def _coarse_shape(scanner: Scanner, coarsening: int) -> tuple[int, int, int]:
    nx, ny, nz = scanner.shape
    return nx // coarsening, ny // coarsening, nz


def _box_around_brain(
    native: np.ndarray, head: np.ndarray, scanner: Scanner, coarsening: int, margin_mm: float
) -> FineGrid:
    """The box of native voxels within ``margin_mm`` of the brain's bounding box."""
    low, high = np.array([-74, -110, -66]) - margin_mm, np.array([74, 76, 84]) + margin_mm
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    index = nib.affines.apply_affine(np.linalg.inv(native) @ head, corners)
    shape = _coarse_shape(scanner, coarsening)
    start = np.clip(np.floor(index.min(axis=0)).astype(int), 0, np.array(shape) - 1)
    stop = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, start + 1, shape)
    wanted = np.round(np.linalg.norm(native[:3, :3], axis=0) / PART_MM)
    parts = np.clip(wanted, 1, MOST_PARTS).astype(int)
    return FineGrid(native, shape, start, stop - start, parts)


def _reference_positions(
    generator: np.random.Generator, grid: FineGrid, head: np.ndarray, reference: Reference
) -> np.ndarray:
    """Reference voxel of every fine voxel, (3, x, y, z) float32, by affine and deformation."""
    shape = grid.fine_shape
    to_reference = np.linalg.inv(head @ reference.affine) @ grid.fine_affine
    nodes = tuple(int(n) for n in np.ceil(np.array(shape) * grid.spacing / 4).astype(int) + 1)
    axes = [np.linspace(0, n - 1, m) for n, m in zip(shape, nodes, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    straight = np.moveaxis(nib.affines.apply_affine(to_reference, index), -1, 0)
    spacing = np.array(shape) * grid.spacing / nodes
    bend = np.stack(
        [
            3.0 * smooth_field(generator, nodes, spacing, 30.0)
            + 1.1 * smooth_field(generator, nodes, spacing, 13.0)
            for _ in range(3)
        ]
    )
    widening = _ventricle_widening(generator, straight, reference)
    while _smallest_stretch(straight + bend + widening, straight) < 0.25:
        bend, widening = 0.8 * bend, 0.8 * widening
    return np.stack([enlarge(c, shape) for c in straight + bend + widening])


def _ventricle_widening(
    generator: np.random.Generator, positions: np.ndarray, reference: Reference
) -> np.ndarray:
    """Displacement in mm, (3, x, y, z), that makes the ventricles some mm wider or narrower."""
    amount, reach = generator.uniform(-0.5, 5.0), 14.0
    padded = positions / 2 + MARGIN

    def at_positions(values: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(values, padded, order=1, mode="nearest")

    smooth = ndimage.gaussian_filter(reference.from_ventricles, 1.5)
    outward = np.stack([at_positions(g / 2) for g in np.gradient(smooth)])
    distance = at_positions(smooth)
    return -amount * outward * np.exp(-np.abs(distance) / reach)


def _smallest_stretch(positions: np.ndarray, straight: np.ndarray) -> float:
    """Smallest local volume ratio of a deformation to its affine part; invertible if positive."""

    def volume(field: np.ndarray) -> np.ndarray:
        gradients = np.stack([np.stack(np.gradient(c)) for c in field])
        return np.linalg.det(np.moveaxis(gradients, (0, 1), (-2, -1)))

    return float((volume(positions) / volume(straight)).min())


def _cortex_weight(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, from_ventricles: np.ndarray
) -> np.ndarray:
    """1 where folds may be drawn; 0 in deep grey matter, brainstem and at the ventricles."""
    deep = (x / 36) ** 2 + ((y + 6) / 36) ** 2 + ((z - 2) / 26) ** 2
    stem = (x / 20) ** 2 + ((y + 30) / 18) ** 2 + ((z + 35) / 35) ** 2
    return np.clip((np.minimum(deep, stem) - 1) * 3, 0, 1) * np.clip(from_ventricles / 4 - 1, 0, 1)


def _sharpen(
    generator: np.random.Generator,
    grid: FineGrid,
    white: np.ndarray,
    grey: np.ndarray,
    brain: np.ndarray,
    cortex: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """White, grey and fluid fractions, sharper than the template's and with folds in the cortex."""
    power = generator.uniform(1.8, 4.0)
    atrophy = generator.uniform(-0.5, 1.6)
    shape, spacing = grid.fine_shape, grid.spacing
    folds = smooth_field(generator, shape, spacing, generator.uniform(3.0, 4.5))
    blades = smooth_field(generator, shape, spacing, 3.0)
    width = generator.uniform(0.16, 0.30)
    floor = 0.004

    def sharp(
        white: np.ndarray,
        grey: np.ndarray,
        brain: np.ndarray,
        cortex: np.ndarray,
        folds: np.ndarray,
        blades: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        crease = np.exp(-((folds / width) ** 2))  # sheets: where the field crosses zero
        fluid = np.clip(brain - white - grey, 0, 1)
        log_white = power * np.log(white + floor) + cortex * 1.2 * blades
        log_grey = power * np.log(grey + floor)
        log_fluid = power * np.log(fluid + floor) + cortex * (4.5 * crease - 1.2 + atrophy)
        top = np.maximum(np.maximum(log_white, log_grey), log_fluid)
        white, grey, fluid = (np.exp(v - top) for v in (log_white, log_grey, log_fluid))
        share = brain / (white + grey + fluid)
        return white * share, grey * share, fluid * share

    return by_planes(sharp, white, grey, brain, cortex, folds, blades)
