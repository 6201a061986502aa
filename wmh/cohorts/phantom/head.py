"""What surrounds the brain in a scan that nobody stripped: skull, scalp, fat, muscle, eyes."""

from __future__ import annotations

import numpy as np

from wmh.cohorts.phantom.anatomy import Anatomy
from wmh.cohorts.phantom.fields import smooth_field, soft_step

HEAD_MARGIN_MM = 20.0
"""How far around the brain a whole head is drawn."""

EYES_MM = ((-33, 58, -36), (33, 58, -36))
"""Centres of the eyeballs in MNI152."""


def draw_brain_mask(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """What a skull-stripping tool keeps, 0 or 1: the brain, cut somewhat too wide or too tight."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    slip = generator.uniform(-0.5, 2.5) + 1.2 * smooth_field(generator, shape, spacing, 8.0)
    inside = anatomy.from_brain < slip
    tissue = anatomy.white + anatomy.grey > 0.5
    close = anatomy.white + anatomy.grey + anatomy.csf > 0.3
    return (inside & (tissue | (generator.random() < 0.6) | close)).astype(np.float32)


def add_head(
    generator: np.random.Generator, anatomy: Anatomy, flair: np.ndarray, t1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add all that is not brain to the noiseless FLAIR and T1 (fine shape, white matter 1)."""
    shape, spacing = anatomy.grid.fine_shape, anatomy.grid.spacing
    x, y, z = anatomy.mni
    uneven = smooth_field(generator, shape, spacing, 18.0)
    patchy = smooth_field(generator, shape, spacing, 3.5)
    outside = np.clip(1 - anatomy.white - anatomy.grey - anatomy.csf, 0, 1)
    low = soft_step(-(z + 30 + 0.25 * (y + 20)) / 4)  # below the base of the skull
    distance = anatomy.from_brain
    fluid = generator.uniform(1.0, 3.0) + 0.7 * uneven
    bone = fluid + np.maximum(generator.uniform(3, 8) + 1.2 * uneven, 1)
    skin = bone + np.maximum(generator.uniform(3, 8) + 2.0 * uneven, 1.5) + 12 * low

    def layer(start: np.ndarray | float, stop: np.ndarray) -> np.ndarray:
        return soft_step((distance - start) / 0.4) * soft_step((stop - distance) / 0.4)

    parts = {
        "fluid": layer(-50, fluid),
        "bone": layer(fluid, bone),
        "scalp": layer(bone, skin),
    }
    marrow = parts["bone"] * soft_step(2 * patchy)
    muscle = parts["scalp"] * np.maximum(low, soft_step(-(z + 5) / 4) * (np.abs(x) > 50))
    muscle *= soft_step(3 * (patchy + 0.4))
    fat = parts["scalp"] - muscle
    eyes = sum(
        soft_step(11.5 - np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)) for a, b, c in EYES_MM
    )

    flair_fat, t1_fat = generator.uniform(0.25, 1.7), generator.uniform(1.0, 2.2)
    new_flair = 0.25 * parts["fluid"] + 0.08 * parts["bone"] + flair_fat * (fat + 0.4 * marrow)
    new_flair += generator.uniform(0.3, 0.8) * muscle
    new_t1 = 0.2 * parts["fluid"] + 0.1 * parts["bone"] + t1_fat * (fat + 0.5 * marrow)
    new_t1 += generator.uniform(0.4, 0.7) * muscle
    new_flair += eyes * (generator.uniform(0.15, 0.4) - new_flair)
    new_t1 += eyes * (generator.uniform(0.15, 0.35) - new_t1)
    return flair + outside * new_flair, t1 + outside * new_t1
