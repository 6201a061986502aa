"""The surroundings of the brain in a scan of a whole head: skull, scalp, fat, muscle, eyes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from wmh.phantom.anatomy import Anatomy
from wmh.phantom.fields import by_planes, smooth_field, soft_step
from wmh.phantom.references import AROUND

NUMBER = {label: number for number, label in enumerate(AROUND, start=1)}

HEAD_MARGIN_MM = 20.0
"""Margin around the brain within which a whole head is drawn."""

FACE_MARGIN_MM = 70.0
"""The same margin for a real head, as far as it was scanned, with face and neck."""

EYES_MM = ((-33, 58, -36), (33, 58, -36))
"""Centres of the eyeballs in MNI152."""


def draw_brain_mask(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Brain mask (0 or 1) as from a skull-stripping tool, somewhat too wide or too narrow."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    slip = generator.uniform(-0.5, 2.5) + 1.2 * smooth_field(generator, shape, spacing, 8.0)
    inside = anatomy.from_brain < slip
    tissue = anatomy.white + anatomy.grey > 0.5
    close = anatomy.white + anatomy.grey + anatomy.csf > 0.3
    return (inside & (tissue | (generator.random() < 0.6) | close)).astype(np.float32)


def add_head(
    generator: np.random.Generator, anatomy: Anatomy, flair: np.ndarray, t1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add everything that is not brain to the noiseless FLAIR and T1 (white matter is 1)."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    uneven = smooth_field(generator, shape, spacing, 18.0)
    patchy = smooth_field(generator, shape, spacing, 3.5)
    fluid_mm, bone_mm, skin_mm = (generator.uniform(*mm) for mm in ((1.0, 3.0), (3, 8), (3, 8)))
    flair_fat, t1_fat = generator.uniform(0.25, 1.7), generator.uniform(1.0, 2.2)
    flair_muscle, t1_muscle = generator.uniform(0.3, 0.8), generator.uniform(0.4, 0.7)
    flair_eyes, t1_eyes = generator.uniform(0.15, 0.4), generator.uniform(0.15, 0.35)

    def with_head(
        flair: np.ndarray,
        t1: np.ndarray,
        brain: np.ndarray,
        mni: np.ndarray,
        distance: np.ndarray,
        uneven: np.ndarray,
        patchy: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        x, y, z = mni
        low = soft_step(-(z + 30 + 0.25 * (y + 20)) / 4)  # below the base of the skull
        fluid = fluid_mm + 0.7 * uneven
        bone = fluid + np.maximum(bone_mm + 1.2 * uneven, 1)
        skin = bone + np.maximum(skin_mm + 2.0 * uneven, 1.5) + 12 * low

        def layer(start: np.ndarray | float, stop: np.ndarray) -> np.ndarray:
            return soft_step((distance - start) / 0.4) * soft_step((stop - distance) / 0.4)

        thin_fluid, skull, scalp = layer(-50, fluid), layer(fluid, bone), layer(bone, skin)
        marrow = skull * soft_step(2 * patchy)
        muscle = scalp * np.maximum(low, soft_step(-(z + 5) / 4) * (np.abs(x) > 50))
        muscle *= soft_step(3 * (patchy + 0.4))
        fat = scalp - muscle
        apart = (np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) for a, b, c in EYES_MM)
        eyes = sum(soft_step(11.5 - mm) for mm in apart)

        new_flair = 0.25 * thin_fluid + 0.08 * skull + flair_fat * (fat + 0.4 * marrow)
        new_flair += flair_muscle * muscle
        new_t1 = 0.2 * thin_fluid + 0.1 * skull + t1_fat * (fat + 0.5 * marrow)
        new_t1 += t1_muscle * muscle
        new_flair += eyes * (flair_eyes - new_flair)
        new_t1 += eyes * (t1_eyes - new_t1)
        outside = np.clip(1 - brain, 0, 1)
        return flair + outside * new_flair, t1 + outside * new_t1

    brain = anatomy.white + anatomy.grey + anatomy.csf
    return by_planes(with_head, flair, t1, brain, anatomy.mni, anatomy.from_brain, uneven, patchy)


def add_real_head(
    generator: np.random.Generator, anatomy: Anatomy, flair: np.ndarray, t1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add the surroundings of a real brain, each part with its own intensity.

    Where labels do not distinguish fat from muscle, depth below the skin and chance decide. In
    every third image the intensities are arbitrary, because scanners differ more outside the brain
    than inside.
    """
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    soft = np.isin(anatomy.around, [NUMBER[507], NUMBER[511]])
    patchy, broad = (smooth_field(generator, shape, spacing, w) for w in (2.5, 12.0))
    outwards = ndimage.uniform_filter((anatomy.around > 0).astype(np.float32), 7)
    muscle = soft * soft_step(3 * patchy + 8 * (outwards - 0.85) + generator.normal(0, 0.7))
    images = []
    for image, typical in ((flair, _flair_around(generator)), (t1, _t1_around(generator))):
        if generator.random() < 0.35:
            typical = generator.uniform(0.02, 2.3, len(typical))
        table = np.concatenate([[0.0], typical[:-1]]).astype(np.float32)
        drawn = table[anatomy.around]
        drawn += muscle * (np.float32(typical[-1]) - drawn)
        uneven = generator.uniform(0.05, 0.35) * patchy + 0.15 * broad
        drawn *= np.maximum(1 + uneven, 0)
        images.append(image + ndimage.gaussian_filter(drawn, 0.5 / spacing, truncate=2))
    return tuple(images)


def _flair_around(generator: np.random.Generator) -> np.ndarray:
    """FLAIR intensity of each label of :data:`AROUND`, then of muscle; white matter is 1."""
    u = generator.uniform
    fat = u(0.15, 0.5) if generator.random() < 0.4 else u(0.7, 3.0)  # saturated, or not
    values = {502: u(0.1, 1.5), 506: u(0.1, 0.5), 507: fat, 508: u(0.2, 1.2), 509: u(0.3, 2.0)}
    values |= {511: fat * u(0.4, 1.1), 512: u(0.1, 1.5), 514: u(0.2, 1.3)}
    values |= {515: u(0.02, 0.4), 516: u(0.02, 0.6), 530: u(0.1, 1.5)}
    return np.array([*(values[label] for label in AROUND), u(0.25, 0.9)])


def _t1_around(generator: np.random.Generator) -> np.ndarray:
    """T1 intensity of each label of :data:`AROUND`, then of muscle; white matter is 1."""
    u = generator.uniform
    fat = u(0.3, 0.7) if generator.random() < 0.15 else u(1.0, 3.0)
    values = {502: u(0.1, 1.5), 506: u(0.1, 0.4), 507: fat, 508: u(0.2, 1.0), 509: u(0.3, 1.0)}
    values |= {511: fat * u(0.4, 1.1), 512: u(0.1, 1.5), 514: u(0.2, 0.9)}
    values |= {515: u(0.02, 0.6), 516: u(0.02, 0.9), 530: u(0.1, 1.5)}
    return np.array([*(values[label] for label in AROUND), u(0.35, 0.8)])
