"""Comparison of a scan with the training scans, by size, voxel size and intensities.

The training scans of a study are measured once, from the images that ``cohort.csv`` names, and kept
in ``results/STUDY/training_scans.csv``: extent and voxel size (mm) along the closest right,
anterior and superior axes, and quantiles of intensities, normalised as the networks see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.cohorts.cohort import of_split, read_cohort
from wmh.files import write_table
from wmh.images import Image, ImageError, load_image, same_grid, to_ras
from wmh.learning.cut import normalise
from wmh.learning.inference import TISSUE
from wmh.study import Study

QUANTILES = tuple(range(5, 100, 10))
"""Percentiles of normalised intensity by which scans are compared."""

SLACK = 1.15
"""A length outside the training scans' range by more than this factor causes a warning."""

FARTHEST = 1.5
"""Intensities cause a warning if their distance from the training scans' mean is larger by this
factor than that of the farthest training scan."""

EXTENT = ["extent_right_mm", "extent_anterior_mm", "extent_superior_mm"]
VOXEL = ["voxel_right_mm", "voxel_anterior_mm", "voxel_superior_mm"]
LENGTHS = (
    ("Field of view from left to right", EXTENT[0]),
    ("Field of view from front to back", EXTENT[1]),
    ("Field of view from foot to head", EXTENT[2]),
    ("Voxel size from left to right", VOXEL[0]),
    ("Voxel size from front to back", VOXEL[1]),
    ("Slice thickness (axial)", VOXEL[2]),
)
INTENSITY = [f"intensity_p{q:02d}" for q in QUANTILES]


@dataclass(frozen=True)
class Quantity:
    """One measured value of a scan, with its range over the training scans."""

    modality: str
    name: str
    unit: str
    value: float
    low: float
    high: float
    unlike: str | None
    """How the value differs from those of the training scans; None if it does not."""


def training_scans(study: Study) -> pd.DataFrame | None:
    """The study's training scans, one row per image; None if its cohort is not available.

    They are read from ``training_scans.csv`` if that is newer than the cohort table; otherwise they
    are measured and written there.
    """
    cohort, kept = study.results / "cohort.csv", study.results / "training_scans.csv"
    if kept.is_file() and not (cohort.is_file() and cohort.stat().st_mtime > kept.stat().st_mtime):
        return pd.read_csv(kept, dtype={"subject": str})
    if not cohort.is_file():
        return None
    subjects = of_split(read_cohort(cohort), "training")
    scans = [(s.id, "FLAIR", s.flair) for s in subjects] + [(s.id, "T1", s.t1) for s in subjects]

    def row(scan: tuple[str, str, Path | None]) -> dict[str, object] | None:
        subject, modality, path = scan
        try:
            facts = describe_scan(load_image(path or ""))
        except ImageError:  # an image that is no longer there
            return None
        return {"subject": subject, "modality": modality} | facts

    with ThreadPoolExecutor(2) as pool:
        rows = list(tqdm(pool.map(row, scans), "training scans", len(scans), leave=False))
    table = pd.DataFrame([row for row in rows if row is not None])
    if table.empty:
        return None
    write_table(table, kept)
    return table


def describe_scan(image: Image) -> dict[str, float]:
    """Extent, voxel size and intensity of one scan, as columns of ``training_scans.csv``."""
    ras = to_ras(image)
    extent = ras.voxel_size * ras.data.shape
    normalised = normalise(image)
    tissue = normalised[normalised > TISSUE]
    quantiles = np.percentile(tissue, QUANTILES) if tissue.size else np.zeros(len(QUANTILES))
    names = (*EXTENT, *VOXEL, *INTENSITY)
    values = (*extent, *ras.voxel_size, *quantiles)
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}


def compare_scan(images: Mapping[str, Image], training: pd.DataFrame | None) -> list[Quantity]:
    """Compare the given images (originals, by modality) with the training scans.

    The geometry of a second image is left out if it has the first one's grid. The list is empty if
    the training scans are not known.
    """
    if training is None:
        return []
    found, first = [], next(iter(images.values()))
    for modality, image in images.items():
        rows = training[training["modality"] == modality]
        if rows.empty:
            continue
        scan = describe_scan(image)
        if image is first or not same_grid(image, first):
            found += [_length(modality, name, scan[key], rows[key]) for name, key in LENGTHS]
        found.append(_intensity(modality, scan, rows))
    return found


def _length(modality: str, name: str, value: float, training: pd.Series) -> Quantity:
    low, high = float(training.min()), float(training.max())
    unlike = None
    if not low / SLACK <= value <= high * SLACK:
        way = "smaller" if value < low else "larger"
        known = " to ".join(dict.fromkeys(f"{end:.3g}" for end in (low, high)))
        unlike = (
            f"{modality}: {name.lower()} is {value:.3g} mm, {way} than in the training scans "
            f"({known} mm)"
        )
    return Quantity(modality, name, "mm", value, low, high, unlike)


def _intensity(modality: str, scan: dict[str, float], rows: pd.DataFrame) -> Quantity:
    """Mean distance of the scan's quantiles from the training scans' mean quantiles."""
    mean = rows[INTENSITY].mean()
    apart = (rows[INTENSITY] - mean).abs().mean(axis=1)
    value = float((pd.Series(scan)[INTENSITY] - mean).abs().mean())
    unlike = None
    if value > FARTHEST * apart.max():
        unlike = (
            f"{modality}: the intensity distribution differs from that of the training scans "
            f"(distance {value:.2f}; among them at most {apart.max():.2f})"
        )
    name = "Distance of intensities from the training mean"
    return Quantity(modality, name, "", value, float(apart.min()), float(apart.max()), unlike)
