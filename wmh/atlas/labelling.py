"""Region labels of a whole cohort: a label image a subject, and how well each fits.

Subjects are labelled side by side, each in memory alone, and those that are finished with the same
images, settings and code are not done again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.atlas.fast_aid import segmentation_beside
from wmh.atlas.regions import REGION_LABELS, REST_LABELS
from wmh.atlas.registration import Fit, RegistrationWarning, carry_labels, register_atlas
from wmh.atlas.source import Atlas, load_atlas, read_published
from wmh.atlas.tissue import border_contrast, white_matter
from wmh.cores import cores_here, processes
from wmh.images import Image, ImageError, load_image, load_labels, resample_to, save_image
from wmh.settings import RegionSettings
from wmh.study import Study, project_root

ALL_LABELS = (*REGION_LABELS, *REST_LABELS)
LABELS = range(37)
FIT_COLUMNS = (*(f.name for f in fields(Fit) if f.name != "transform"), "border_contrast")
OUTLIER = -3.5
"""Robust z below which a fit is flagged (Iglewicz and Hoaglin 1993).

It is that of the white-matter Dice, or of the contrast at the white matter's border if lower: a
segmentation that follows the template rather than the picture fits the atlas all the better.
"""


class SubjectFiles(Protocol):
    """What is needed of a subject; :class:`wmh.cohorts.cohort.Subject` has it."""

    id: str
    split: str
    scanner: str
    flair: Path | None
    t1: Path | None
    lesions: Path | None
    true_regions: Path | None


@dataclass(frozen=True)
class Task:
    """One subject to label: its files, the settings, and where the labels go."""

    id: str
    flair: Path
    t1: Path
    lesions: Path | None
    true_regions: Path | None
    published: Path | None
    settings: RegionSettings
    atlas_folder: Path
    seed: int
    output: Path


def label_cohort(
    study: Study,
    subjects: Iterable[SubjectFiles],
    published: dict[str, Path] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Label every subject of a study; write and return ``regions.csv`` and ``region_volumes.csv``.

    Label images go to ``results/STUDY/regions/ID.nii.gz``, on the FLAIR's grid. ``published`` maps
    subjects to the authors' own label images, for a study whose atlas is ``published``. The first
    table has a row a subject (fit, and mean region Dice against the true regions where these are
    known), the second a row a subject and region (ml, Dice). Raises :class:`ImageError` where the
    atlas, or the published labels of a subject, are not there.
    """
    subjects = list(subjects)
    _raise_without_atlas(study, subjects, published or {})
    tasks = [_task(study, subject, (published or {}).get(subject.id)) for subject in subjects]
    done: dict[str, dict] = {}
    with processes(cores_here()) as pool:
        running = [pool.submit(label_subject, task) for task in tasks]
        for finished in tqdm(as_completed(running), total=len(running), desc="regions"):
            row = finished.result()
            done[row["id"]] = row
    table = _fit_table(subjects, done)
    volumes = pd.DataFrame(
        [{"id": s.id, **region} for s in subjects for region in done[s.id]["regions"]]
    )
    for name, rows in (("regions", table), ("region_volumes", volumes)):
        path = study.results / f"{name}.csv"
        rows.to_csv(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").replace(path)
    return table, volumes


def label_subject(task: Task) -> dict:
    """Label one subject and describe the result, or read the description of a finished one."""
    record = task.output.with_name(f"{task.id}.json")
    fingerprint = _fingerprint(task)
    if record.is_file() and task.output.is_file():
        finished = json.loads(record.read_text())
        if finished["fingerprint"] == fingerprint:
            return finished
    flair = load_image(task.flair)
    if task.settings.atlas == "known":
        labels, fit = _known(task.true_regions, flair), {}
    elif task.settings.atlas == "published":
        labels, fit = read_published(task.published, flair), {}
    else:
        atlas = load_atlas(task.settings.atlas, task.atlas_folder)
        t1 = load_image(task.t1)
        lesions = None if task.lesions is None else load_labels(task.lesions, range(3))
        with warnings.catch_warnings():  # doubts are a column of the table
            warnings.simplefilter("ignore", RegistrationWarning)
            labels, found = label_image(t1, flair, atlas, task.settings.method, task.seed, lesions)
        fit = {name: getattr(found, name) for name in FIT_COLUMNS[:-1]}
        fit["border_contrast"] = border_contrast(resample_to(t1, flair), labels)
    save_image(task.output, labels.data, like=flair)
    truth = None if task.true_regions is None else load_labels(task.true_regions, LABELS)
    row = {
        "id": task.id,
        "fingerprint": fingerprint,
        "fit": fit,
        "regions": _describe_regions(labels, truth),
    }
    record.with_suffix(".part").write_text(json.dumps(row))
    record.with_suffix(".part").replace(record)
    return row


def _known(true_regions: Path | None, flair: Image) -> Image:
    """A subject's own region labels; without any an empty image: they are not known."""
    if true_regions is not None:
        return load_labels(true_regions, LABELS)
    return replace(flair, data=np.zeros(flair.data.shape, dtype=np.uint8))


def label_image(
    t1: Image,
    flair: Image | None,
    atlas: Atlas,
    method: str,
    seed: int,
    lesions: Image | None = None,
) -> tuple[Image, Fit]:
    """Region labels (uint8, 0 to 36) on the FLAIR's grid, or without one the T1's, and the fit.

    ``lesions`` are 1 in lesion; where they are known, every lesion voxel gets its region.
    """
    white = white_matter(t1, flair, lesions, seed)
    cerebral = segmentation_beside(t1.path) is not None
    fit = register_atlas(
        white, atlas.cerebral_white_matter if cerebral else atlas.white_matter, seed, method
    )
    grid = t1 if flair is None else flair
    return carry_labels(atlas.labels, fit, resample_to(white, grid, order=0)), fit


def region_dice(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Dice of each label from 0 to 36, shape (37,); NaN for one that neither image has."""
    sizes = np.bincount(truth.ravel(), minlength=37) + np.bincount(prediction.ravel(), minlength=37)
    both = np.bincount(truth[truth == prediction].ravel(), minlength=37)
    return np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), np.nan)


def robust_z(values: pd.Series) -> pd.Series:
    """Distance from the median in units of the scaled median absolute deviation."""
    deviation = values - values.median()
    spread = 1.4826 * deviation.abs().median()
    return deviation / spread if spread > 0 else 0.0 * deviation


def _raise_without_atlas(
    study: Study, subjects: list[SubjectFiles], published: dict[str, Path]
) -> None:
    folder = project_root() / study.regions.atlas_folder
    if study.regions.atlas == "jhu":
        load_atlas("jhu", folder)
    if study.regions.atlas != "published":
        return
    absent = [subject.id for subject in subjects if subject.id not in published]
    if absent:
        raise ImageError(
            folder,
            f"no published labels of {len(absent)} of {len(subjects)} subjects "
            f"({', '.join(absent[:5])}{', ...' * (len(absent) > 5)})",
            "Fetch them: wmh fetch atlas; they exist for the challenge's own subjects only, so "
            "otherwise set regions.atlas to jhu or built-in",
        )


def _task(study: Study, subject: SubjectFiles, published: Path | None) -> Task:
    return Task(
        id=subject.id,
        flair=subject.flair,
        t1=subject.t1,
        lesions=subject.lesions,
        true_regions=subject.true_regions,
        published=published if study.regions.atlas == "published" else None,
        settings=study.regions,
        atlas_folder=project_root() / study.regions.atlas_folder,
        seed=study.seed_for("regions", subject.id),
        output=study.results / "regions" / f"{subject.id}.nii.gz",
    )


def _fit_table(subjects: list[SubjectFiles], done: dict[str, dict]) -> pd.DataFrame:
    rows = []
    for subject in subjects:
        result = done[subject.id]
        dice = [r["dice"] for r in result["regions"] if r["region"] in REGION_LABELS]
        known = [d for d in dice if d is not None]
        rows.append(
            {
                "id": subject.id,
                "scanner": subject.scanner,
                "split": subject.split,
                **dict.fromkeys(FIT_COLUMNS),  # published labels come without a fit
                **result["fit"],
                "mean_region_dice": np.mean(known) if known else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    measured = [name for name in FIT_COLUMNS if name != "doubt"]
    table[measured] = table[measured].apply(pd.to_numeric)
    table["robust_z"] = np.fmin(
        robust_z(table["white_matter_dice"]), robust_z(table["border_contrast"])
    )
    table["outlier"] = table["doubt"].notna() | (table["robust_z"] < OUTLIER)
    return table


def _describe_regions(labels: Image, truth: Image | None) -> list[dict]:
    volumes = np.bincount(labels.data.ravel(), minlength=37) * labels.voxel_ml
    dice = np.full(37, np.nan) if truth is None else region_dice(truth.data, labels.data)
    return [
        {
            "region": label,
            "ml": float(volumes[label]),
            "dice": None if np.isnan(dice[label]) else float(dice[label]),
        }
        for label in ALL_LABELS
    ]


def _fingerprint(task: Task) -> str:
    """Hash of all that the result depends on: images, settings, seed and the code of this room."""
    digest = hashlib.sha256(json.dumps(asdict(replace(task, settings=None)), default=str).encode())
    digest.update(task.settings.model_dump_json().encode())
    segmentation = segmentation_beside(task.t1)
    images = (task.flair, task.t1, task.lesions, task.true_regions, task.published, segmentation)
    for path in images:
        digest.update(path.read_bytes() if path else b"none")
    for module in sorted(Path(__file__).parent.glob("**/*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()
