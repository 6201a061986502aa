"""White-matter lesions: their positions, their size, and the outline that a rater would draw.

Periventricular caps and bands grow outwards from the lateral ventricles until they have their share
of the person's lesion load. Deep lesions, punctate to confluent, are placed one by one. All are
severities from 0 to 1 on the fine grid, about 0.5 at the outline that a rater would draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from scipy import ndimage

from wmh.phantom.anatomy import Anatomy
from wmh.phantom.fields import smooth_field, soft_step
from wmh.phantom.lesion_load import PERIVENTRICULAR_MM, LesionLoad

CAPS_MM = np.array([(-17, 32, 6), (17, 32, 6), (-29, -56, 16), (29, -56, 16)], dtype=np.float32)
"""Tips of the frontal and occipital horns in MNI152, where caps are thickest."""

EDGE_MM = {"template": (0.25, 0.7), "heads": (0.3, 2.0)}
"""Width of a lesion's edge, by anatomy; with heads it varies more, like real raters and lesions."""

OUTLINE = {"template": (-0.1, 0.6), "heads": (-1.0, 0.5)}
"""Position of a rater's outline on that edge; below 0 it lies where contrast is below one half."""

DEEP_EDGE_MM = {"template": (0.3, 0.7), "heads": (0.3, 1.2)}
DEEP_OUTLINE = {"template": 0.4, "heads": -0.1}
"""The same two for deep lesions."""

BRIDGED_SHARE = 0.62
"""The bands of both sides may join only if the largest lesion should hold more than this share."""


@dataclass(frozen=True)
class Lesions:
    """``severity`` and ``infarct`` (0 to 1) on the fine grid; ``truth`` (0, 1, 2) on the box."""

    severity: np.ndarray
    infarct: np.ndarray
    truth: np.ndarray


def draw_lesions(generator: np.random.Generator, anatomy: Anatomy, load: LesionLoad) -> Lesions:
    """Draw lesions inside the person's white matter, with about the wanted ``load``."""
    grid = anatomy.grid
    voxel_ml = float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000
    white = grid.average(anatomy.white)
    allowed = (white > 0.5) & (grid.average(_supratentorial(anatomy)) > 0.5)
    near = _near_ventricles(anatomy)
    wanted = load.lesion_ml / voxel_ml  # voxels

    growth = _periventricular_growth(generator, anatomy)
    reluctance = 4 * max(load.periventricular_share - 0.65, 0) / 0.3
    growth -= reluctance * np.maximum(anatomy.from_ventricles - 0.8 * PERIVENTRICULAR_MM, 0)
    if load.largest_share < BRIDGED_SHARE:
        growth -= 60 * np.exp(-(((anatomy.mni[0] / 4) ** 2) ** 2))  # the two sides stay apart
    truth, severity = _grow_bands(generator, anatomy, growth, allowed, wanted, load)
    _set_deep_lesions(generator, anatomy, severity, truth, allowed, near, wanted, load)

    infarct = np.zeros_like(severity)
    labels = truth.astype(np.uint8)
    if generator.random() < 0.25:
        infarct = _draw_infarct(generator, anatomy)
        labels[(grid.average(infarct) > 0.5) & ~truth] = 2
        labels[(grid.average(infarct) > 0.9)] = 2
    return Lesions(severity * (anatomy.white > 0.05), infarct, labels)


def _near_ventricles(anatomy: Anatomy) -> np.ndarray:
    """Voxels of the box that count as periventricular in the lesion statistics."""
    native = anatomy.grid.native_spacing
    outside = anatomy.grid.average(anatomy.from_ventricles) >= 0
    return ndimage.distance_transform_edt(outside, sampling=native) <= PERIVENTRICULAR_MM


def _supratentorial(anatomy: Anatomy) -> np.ndarray:
    """1 in the cerebrum: above a plane through pons and occipital base."""
    _, y, z = anatomy.mni
    return ((z > -14 - 0.15 * (y + 20)) | (y > -5)).astype(np.float32)


def _periventricular_growth(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Height in mm (fine shape); bands are where it exceeds a level that is found later."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    mni = anatomy.mni
    growth = -np.maximum(anatomy.from_ventricles, -1.5)
    strength = generator.uniform(2.0, 7.0, len(CAPS_MM))
    for cap, height in zip(CAPS_MM, strength, strict=True):
        apart = sum((mni[i] - cap[i]) ** 2 for i in range(3))
        growth += height * np.exp(-apart / (2 * generator.uniform(7, 12) ** 2))
    growth += generator.uniform(0.8, 2.2) * smooth_field(generator, shape, spacing, 4.0)
    growth += generator.uniform(1.0, 4.5) * smooth_field(generator, shape, spacing, 10.0)
    growth += generator.uniform(0.3, 0.9) * smooth_field(generator, shape, spacing, 1.8)
    growth -= 4 * np.exp(-((mni[0] / 7) ** 2))  # corpus callosum and septum are mostly spared
    growth -= generator.uniform(0.05, 0.4) * np.maximum(-mni[2] - 2, 0)  # less at temporal horns
    return growth


def _grow_bands(
    generator: np.random.Generator,
    anatomy: Anatomy,
    growth: np.ndarray,
    allowed: np.ndarray,
    wanted: float,
    load: LesionLoad,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the bands on both sides: truth on the box (bool) and severity on the fine grid."""
    grid = anatomy.grid
    coarse = grid.average(growth)
    left = grid.average(anatomy.mni[0]) < 0
    larger = load.largest_share * wanted
    smaller = min(max(load.periventricular_share - load.largest_share, 0.05) * wanted, larger)
    sides = [larger, 0.85 * smaller]
    if generator.random() < 0.5:
        sides.reverse()
    if load.largest_share < BRIDGED_SHARE:
        halves = zip((left, ~left), sides, strict=True)
        levels = [_level_of_largest(coarse, allowed & half, size) for half, size in halves]
    else:
        levels = [_level_of_largest(coarse, allowed, larger)] * 2
    truth = allowed & (coarse > np.where(left, *levels))
    blend = soft_step(anatomy.mni[0])  # 0 left, 1 right
    height = growth - (levels[0] * (1 - blend) + levels[1] * blend)
    broad, patchy = (smooth_field(generator, grid.fine_shape, grid.spacing, w) for w in (9.0, 5.0))
    edge = generator.uniform(*EDGE_MM[anatomy.kind]) * np.exp(0.3 * broad)
    outline = generator.uniform(*OUTLINE[anatomy.kind])
    fading = generator.uniform(0.0, 0.35) * soft_step(2 * patchy)
    return truth, (soft_step(height / edge + outline) * (1 - fading)).astype(np.float32)


def _level_of_largest(height: np.ndarray, allowed: np.ndarray, size: float) -> float:
    """The level above which the largest connected part of a mask holds about ``size`` voxels."""
    values = np.sort(height[allowed])[::-1]
    low, high = min(int(size), len(values) - 1), min(int(1.3 * size) + 2, len(values) - 1)
    for _ in range(6):
        middle = (low + high) // 2
        above = allowed & (height > values[middle])
        parts = cc3d.connected_components(above.astype(np.uint8), connectivity=26)
        largest = np.bincount(parts.ravel())[1:].max(initial=0)
        low, high = (middle, high) if largest < size else (low, middle)
    return float(values[(low + high) // 2])


def _set_deep_lesions(
    generator: np.random.Generator,
    anatomy: Anatomy,
    severity: np.ndarray,
    truth: np.ndarray,
    allowed: np.ndarray,
    near: np.ndarray,
    wanted: float,
    load: LesionLoad,
) -> None:
    """Add deep lesions to ``severity`` and ``truth`` until number and volume are reached."""
    grid = anatomy.grid
    there = cc3d.connected_components(truth.astype(np.uint8), connectivity=26).max()
    count = max(load.lesions - int(there), 3)
    volume = max(wanted - truth.sum(), count)  # voxels
    far_wanted = (1 - load.periventricular_share) * wanted - (truth & ~near).sum()
    sizes = generator.lognormal(0, 1.1, count)
    sizes = np.sort(np.maximum(sizes / sizes.sum() * volume, 0.8))[::-1]
    preference = grid.average(_deep_preference(generator, anatomy))
    unmarked = allowed & ~ndimage.binary_dilation(truth, np.ones((3, 3, 3)))
    for size in sizes:
        far = far_wanted > 0
        free = unmarked & (near != far)
        if not free.any():
            free = unmarked
        if not free.any():
            return
        where = np.flatnonzero(free)
        weight = preference.ravel()[where]
        chosen = where[generator.choice(len(where), p=weight / weight.sum())]
        centre = np.array(np.unravel_index(chosen, free.shape))
        box, drawn = _set_one(generator, anatomy, severity, allowed, centre, float(size))
        added = np.count_nonzero(drawn & ~truth[box])
        truth[box] |= drawn
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        unmarked[around] &= ~ndimage.binary_dilation(truth[around], np.ones((3, 3, 3)))
        if far:
            far_wanted -= added


def _deep_preference(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Relative probability of a deep lesion: clustered, and higher above the ventricles."""
    clusters = smooth_field(generator, anatomy.grid.fine_shape, anatomy.grid.spacing, 8.0)
    z = anatomy.mni[2]
    return np.exp(1.2 * clusters) * (0.15 + soft_step((z + 5) / 6)) * (anatomy.white**2 + 1e-6)


def _set_one(
    generator: np.random.Generator,
    anatomy: Anatomy,
    severity: np.ndarray,
    allowed: np.ndarray,
    centre: np.ndarray,
    size: float,
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Add one lesion of about ``size`` voxels at the voxel ``centre`` to ``severity``.

    Returns the native voxels around it, as slices of the box, and its mask there (bool).
    """
    grid, kind = anatomy.grid, anatomy.kind
    native = grid.native_spacing
    radius = (size * native.prod() * 3 / (4 * np.pi)) ** (1 / 3)  # mm
    stretch = generator.lognormal(0, 0.25, 3)
    radii = radius * stretch / stretch.prod() ** (1 / 3)
    middle = (centre + 0.5 + generator.uniform(-0.25, 0.25, 3)) * grid.parts - 0.5
    reach = np.ceil((1.5 * radii.max() + 2.5) / grid.spacing).astype(int)
    low = np.maximum(np.floor(middle).astype(int) - reach, 0)
    high = np.minimum(np.ceil(middle).astype(int) + reach + 1, grid.fine_shape)
    low, high = low // grid.parts, -(-high // grid.parts)  # whole native voxels
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    patch = tuple(slice(a * p, b * p) for a, b, p in zip(low, high, grid.parts, strict=True))
    apart = [
        (np.arange(s.start, s.stop) - m) * h
        for s, m, h in zip(patch, middle, grid.spacing, strict=True)
    ]
    x, y, z = np.meshgrid(*apart, indexing="ij")
    turn = np.linalg.qr(generator.standard_normal((3, 3)))[0]
    turned = np.einsum("ij,jxyz->ixyz", turn, np.stack([x, y, z]))
    relative = np.sqrt(sum((t / r) ** 2 for t, r in zip(turned, radii, strict=True)))
    bumps = smooth_field(generator, x.shape, grid.spacing, max(1.2, 0.45 * radius))
    depth = radius * (1 - relative) + 0.18 * radius * bumps  # mm inside the outline
    seen = 0.7 * np.exp(-((radius / 2.5) ** 2))  # mm: a rater marks a dot only if it stands out
    edge = generator.uniform(*DEEP_EDGE_MM[kind])
    local = soft_step((depth + seen) / edge + DEEP_OUTLINE[kind]).astype(np.float32)
    local *= generator.uniform(0.7, 1.1) + 0.3 * seen
    np.maximum(severity[patch], local, out=severity[patch])

    shape = [
        n for s, p in zip(patch, grid.parts, strict=True) for n in ((s.stop - s.start) // p, p)
    ]
    drawn = ((depth > 0).reshape(shape).mean(axis=(1, 3, 5)) > 0.5) & allowed[box]
    drawn[tuple(centre - low)] = True
    return box, drawn


def _draw_infarct(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Severity (0 to 1, fine shape) of one old infarct in the cortex or the deep grey matter."""
    grid = anatomy.grid
    grey = grid.average(anatomy.grey) > 0.5
    where = np.argwhere(grey & (grid.average(_supratentorial(anatomy)) > 0.5))
    middle = (where[generator.integers(len(where))] + 0.5) * grid.parts
    radii = generator.uniform(4, 14) * generator.lognormal(0, 0.25, 3)
    axes = [
        (np.arange(n) - m) * h
        for n, m, h in zip(grid.fine_shape, middle, grid.spacing, strict=True)
    ]
    x, y, z = (a.astype(np.float32) for a in np.meshgrid(*axes, indexing="ij", sparse=True))
    relative = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
    ragged = 0.2 * smooth_field(generator, grid.fine_shape, grid.spacing, 4.0)
    return soft_step((1 - relative + ragged) * radii.min() / 0.8).astype(np.float32)
