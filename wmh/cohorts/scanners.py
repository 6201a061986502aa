"""The five scanners of the MICCAI WMH Segmentation Challenge (Kuijf et al. 2019), and any other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Scanner:
    """A scanner: its short name, where its subjects lie in the challenge's tree, its usual grid.

    ``folder`` is the path below ``training/`` or ``test/``, under a name every file system can
    store; ``published_folder`` is the challenge's own spelling. ``shape`` (voxels) and
    ``voxel_size`` (mm) are those of the axial native grid, array axes left-posterior-superior.
    """

    name: str
    title: str
    site: str
    folder: str
    published_folder: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    in_training: bool


SCANNERS = {
    scanner.name: scanner
    for scanner in (
        Scanner(
            name="utrecht_philips_3t",
            title="Utrecht, Philips Achieva 3 T",
            site="Utrecht",
            folder="Utrecht",
            published_folder="Utrecht",
            shape=(240, 240, 48),
            voxel_size=(0.958, 0.958, 3.0),
            in_training=True,
        ),
        Scanner(
            name="singapore_siemens_3t",
            title="Singapore, Siemens TrioTim 3 T",
            site="Singapore",
            folder="Singapore",
            published_folder="Singapore",
            shape=(232, 256, 48),
            voxel_size=(1.0, 1.0, 3.0),
            in_training=True,
        ),
        Scanner(
            name="amsterdam_ge_3t",
            title="Amsterdam, GE Signa HDxt 3 T",
            site="Amsterdam",
            folder="Amsterdam/GE3T",
            published_folder="Amsterdam/GE3T",
            shape=(132, 256, 83),
            voxel_size=(1.2, 0.977, 3.0),
            in_training=True,
        ),
        Scanner(
            name="amsterdam_ge_1p5t",
            title="Amsterdam, GE Signa HDxt 1.5 T",
            site="Amsterdam",
            folder="Amsterdam/GE1T5",
            published_folder="Amsterdam/GE1T5",
            shape=(128, 256, 103),
            voxel_size=(1.3, 1.211, 3.0),
            in_training=False,
        ),
        Scanner(
            name="amsterdam_philips_3t",
            title="Amsterdam, Philips Ingenuity 3 T",
            site="Amsterdam",
            folder="Amsterdam/Philips_VU_PETMR_01",
            published_folder="Amsterdam/Philips_VU .PETMR_01.",
            shape=(321, 240, 83),
            voxel_size=(0.56, 1.042, 3.0),
            in_training=False,
        ),
    )
}


VARIOUS = Scanner(
    name="various",
    title="Various scanners",
    site="Various",
    folder="Various",
    published_folder="Various",
    shape=(0, 0, 0),
    voxel_size=(0.0, 0.0, 0.0),
    in_training=True,
)
"""Stands for any scanner at all: each simulated subject gets a grid and a contrast of its own."""

SIMULATED = SCANNERS | {VARIOUS.name: VARIOUS}


def draw_scanner(generator: np.random.Generator) -> Scanner:
    """A scanner of no challenge: slices from 2 to 7.5 mm, pixels about 1 mm, a field of its own."""
    pixel = generator.uniform(0.9, 1.3)
    thickness = generator.choice([3.0, generator.uniform(2, 4), generator.uniform(4, 7.5)])
    right, front = generator.uniform(205, 260), generator.uniform(225, 260)
    height = generator.uniform(115, 200)
    shape = (round(right / pixel), round(front / pixel), max(round(height / thickness), 16))
    return replace(VARIOUS, shape=shape, voxel_size=(pixel, pixel, float(thickness)))


def scanner_at(folder: str) -> Scanner | None:
    """The scanner of a folder of the challenge's tree, in its published or its safe spelling."""
    return next(
        (s for s in SIMULATED.values() if folder in (s.folder, s.published_folder)),
        None,
    )
