"""The five scanners of the MICCAI WMH Segmentation Challenge (Kuijf 2019), and random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Scanner:
    """A scanner: its short name, its folder in the challenge's tree, its usual grid.

    ``published_folder`` is the path below ``training/`` or ``test/`` in the challenge's own
    spelling; ``folder`` is a spelling that every file system can store. ``shape`` (voxels) and
    ``voxel_size`` (mm) are those of the axial native grid, array axes left-posterior-superior.
    """

    name: str
    published_folder: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    in_training: bool

    @property
    def folder(self) -> str:
        """The published folder without the space and dots of one of them."""
        return self.published_folder.replace(" .", "_").rstrip(".")


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner("utrecht_philips_3t", "Utrecht", (240, 240, 48), (0.958, 0.958, 3.0), True),
        Scanner("singapore_siemens_3t", "Singapore", (232, 256, 48), (1.0, 1.0, 3.0), True),
        Scanner("amsterdam_ge_3t", "Amsterdam/GE3T", (132, 256, 83), (1.2, 0.977, 3.0), True),
        Scanner("amsterdam_ge_1p5t", "Amsterdam/GE1T5", (128, 256, 103), (1.3, 1.211, 3.0), False),
        Scanner(
            "amsterdam_philips_3t",
            "Amsterdam/Philips_VU .PETMR_01.",
            (321, 240, 83),
            (0.56, 1.042, 3.0),
            False,
        ),
    )
}

VARIOUS = Scanner("various", "Various", (0, 0, 0), (0.0, 0.0, 0.0), True)
"""Stands for any scanner: each simulated subject gets its own random grid and contrast."""

SIMULATED = SCANNERS | {VARIOUS.name: VARIOUS}


def draw_scanner(generator: np.random.Generator) -> Scanner:
    """A random scanner: slices of 2 to 7.5 mm, pixels of about 1 mm, a random field of view."""
    pixel = generator.uniform(0.9, 1.3)
    thickness = generator.choice([3.0, generator.uniform(2, 4), generator.uniform(4, 7.5)])
    right, front = generator.uniform(205, 260), generator.uniform(225, 260)
    height = generator.uniform(115, 200)
    shape = (round(right / pixel), round(front / pixel), max(round(height / thickness), 16))
    return replace(VARIOUS, shape=shape, voxel_size=(pixel, pixel, float(thickness)))


def scanner_at(folder: str) -> Scanner | None:
    """The scanner of a folder of the challenge's tree, in either spelling; None if unknown."""
    return next(
        (s for s in SIMULATED.values() if folder in (s.folder, s.published_folder)),
        None,
    )
