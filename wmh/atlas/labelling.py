"""Region labels of a whole cohort (one label image per subject, and the quality of each fit).

Subjects are labelled in parallel. Subjects that were finished with the same images, settings and
code are not labelled again. Single scans can be labelled, too, and any atlas can be registered to
any white matter.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.atlas.atlases import Atlas, built_in, load_atlas
from wmh.atlas.fast_aid import segmentation_beside
from wmh.atlas.published import read_published
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, region_dice
from wmh.atlas.registration import Fit, RegistrationWarning, carry_labels, register_atlas
from wmh.atlas.tissue import border_contrast, white_matter
from wmh.cores import cores_here, processes
from wmh.dependencies import code_of
from wmh.files import complete, fingerprint, write_table
from wmh.images import (
    Image,
    ImageError,
    load_image,
    load_labels,
    raise_unless_writable,
    resample_to,
    save_image,
)
from wmh.study import Study, project_root

FIT_COLUMNS = (*(f.name for f in fields(Fit) if f.name != "transform"), "border_contrast")
OUTLIER = -3.5
"""Robust z below which a fit is flagged (Iglewicz and Hoaglin 1993).

It is the lower one of two: for the white-matter Dice, and for the contrast at the white matter's
border. The contrast is needed because a segmentation that follows the template instead of the image
has a high Dice.
"""


class SubjectFiles(Protocol):
    """A subject and its files, for instance a :class:`wmh.cohorts.cohort.Subject`."""

    id: str
    split: str
    scanner: str
    flair: Path | None
    t1: Path | None
    lesions: Path | None
    true_regions: Path | None


def label_cohort(
    study: Study,
    subjects: Iterable[SubjectFiles],
    published: dict[str, Path] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Label every subject of a study; write and return ``regions.csv`` and ``region_volumes.csv``.

    ``published`` maps subjects to the authors' own label images, for a study whose atlas is
    ``published``. The first table has one row per subject (fit, and mean region Dice if the true
    regions are known), the second one row per subject and region (ml, Dice). Raises
    :class:`ImageError` if the atlas or a subject's published labels are missing.
    """
    subjects = list(subjects)
    published = (published or {}) if study.regions.atlas == "published" else {}
    _raise_without_atlas(study, subjects, published)
    done: dict[str, dict] = {}
    with processes(cores_here()) as pool:
        running = [pool.submit(label_subject, study, s, published.get(s.id)) for s in subjects]
        for finished in tqdm(as_completed(running), total=len(running), desc="regions"):
            row = finished.result()
            done[row["id"]] = row
    table = _fit_table(subjects, done)
    volumes = pd.DataFrame(
        [{"id": s.id, **region} for s in subjects for region in done[s.id]["regions"]]
    )
    write_table(table, study.table("regions"))
    write_table(volumes, study.table("region_volumes"))
    return table, volumes


def label_subject(study: Study, subject: SubjectFiles, published: Path | None = None) -> dict:
    """Label one subject on its FLAIR's grid, and return the record that is kept beside the labels.

    For a finished subject, the record is only read. Labels are written to
    ``results/STUDY/regions/ID.nii.gz``.
    """
    output = study.region_labels(subject.id)
    record = output.with_name(f"{subject.id}.json")
    depends_on = _fingerprint(study, subject, published)
    if record.is_file() and output.is_file():
        finished = json.loads(record.read_text())
        if finished["fingerprint"] == depends_on:
            return finished
    record.unlink(missing_ok=True)  # an old record must not lie beside new labels
    flair = load_image(subject.flair)
    truth = subject.true_regions and load_labels(subject.true_regions, ALL_LABELS)
    fit = {}
    if study.regions.atlas == "known":  # all 0 for a subject without known regions
        labels = truth or replace(flair, data=np.zeros(flair.data.shape, dtype=np.uint8))
    elif study.regions.atlas == "published":
        labels = read_published(published, flair)
    else:
        t1 = load_image(subject.t1)
        lesions = subject.lesions and load_labels(subject.lesions, range(3))
        atlas = load_atlas(study.regions.atlas, project_root() / study.regions.atlas_folder)
        seed = study.seed_for("regions", subject.id)
        with warnings.catch_warnings():  # doubts are reported in a column of the table instead
            warnings.simplefilter("ignore", RegistrationWarning)
            labels, found = label_image(t1, flair, atlas, study.regions.method, seed, lesions)
        fit = {name: getattr(found, name) for name in FIT_COLUMNS[:-1]}
        fit["border_contrast"] = border_contrast(resample_to(t1, flair), labels)
    save_image(output, labels.data, like=flair)
    row = {
        "id": subject.id,
        "fingerprint": depends_on,
        "fit": fit,
        "regions": _describe_regions(labels, truth),
    }
    with complete(record) as part:
        part.write_text(json.dumps(row))
    return row


def label_scan(
    out: Path,
    t1: Path,
    flair: Path | None = None,
    lesions: Path | None = None,
    method: str = "affine",
    seed: int = 0,
) -> tuple[Fit, float]:
    """Write the regions of a scan by the built-in atlas, on the FLAIR's grid, or else the T1's.

    Returns the fit of the atlas, and the T1's contrast at the border of the regions, which shows
    whether they follow the image.
    """
    raise_unless_writable(out, image=True)
    t1_image = load_image(t1)
    flair_image = flair and load_image(flair)
    known = lesions and load_labels(lesions, range(3))
    labels, fit = label_image(t1_image, flair_image, built_in(), method, seed, known)
    save_image(out, labels.data, like=flair_image or t1_image)
    return fit, border_contrast(resample_to(t1_image, labels), labels)


def carry_atlas(
    out: Path,
    white_matter: Path,
    atlas_white_matter: Path,
    atlas_labels: Path,
    method: str = "affine",
    seed: int = 0,
) -> Fit:
    """Write any atlas's labels inside a white-matter mask, on the mask's grid.

    White matter is 1 in a mask, or above 0.5 in a probability image; labels go up to 255.
    """
    raise_unless_writable(out, image=True)
    white = load_image(white_matter)
    fit = register_atlas(white, load_image(atlas_white_matter), seed, method)
    mask = replace(white, data=(white.data > 0.5).astype(np.uint8))
    save_image(out, carry_labels(load_labels(atlas_labels), fit, mask).data, like=white)
    return fit


def label_image(
    t1: Image,
    flair: Image | None,
    atlas: Atlas,
    method: str,
    seed: int,
    lesions: Image | None = None,
) -> tuple[Image, Fit]:
    """Region labels (uint8, 0 to 36) on the FLAIR's grid (without one, the T1's), and the fit.

    If ``lesions`` (1 in lesion) are given, every lesion voxel gets a region.
    """
    white = white_matter(t1, flair, lesions, seed)
    cerebral = segmentation_beside(t1.path) is not None
    fit = register_atlas(
        white, atlas.cerebral_white_matter if cerebral else atlas.white_matter, seed, method
    )
    return carry_labels(atlas.labels, fit, resample_to(white, flair or t1, order=0)), fit


def fits_note(fits: pd.DataFrame) -> str:
    """The mean region Dice if true regions are known, and the number of flagged fits."""
    if fits["white_matter_dice"].isna().all():
        return "No atlas was registered: the labels are those that the study was given."
    known, flagged = fits["mean_region_dice"].dropna(), f"{fits['outlier'].sum()} fits are flagged."
    if known.empty:
        return flagged
    of_whom = f"**{known.mean():.3f}** over {len(known)} subjects"
    return f"Mean region Dice against the true labels: {of_whom}. {flagged}"


def fits_to_look_at(fits: pd.DataFrame) -> dict[str, str]:
    """The subjects with the poorest, the median and the best fit, and up to six flagged ones.

    It is empty if no atlas was registered.
    """
    order = fits.dropna(subset="white_matter_dice").sort_values("white_matter_dice")["id"].tolist()
    if not order:
        return {}
    flagged = fits.loc[fits["outlier"], "id"].head(6)
    return {
        "Poorest": order[0],
        "Median": order[len(order) // 2],
        "Best": order[-1],
        **{f"Flagged ({number})": which for number, which in enumerate(flagged, start=1)},
    }


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
            "Fetch them with wmh fetch atlas. They exist only for the challenge's own subjects; "
            "for others set regions.atlas to jhu or built-in",
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
                **dict.fromkeys(FIT_COLUMNS),  # empty for published labels, which have no fit
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
    volumes = np.bincount(labels.data.ravel(), minlength=len(ALL_LABELS)) * labels.voxel_ml
    dice = np.full(len(ALL_LABELS), np.nan)
    if truth is not None:
        dice = region_dice(truth.data, labels.data)
    return [
        {
            "region": label,
            "ml": float(volumes[label]),
            "dice": None if np.isnan(dice[label]) else float(dice[label]),
        }
        for label in ALL_LABELS[1:]
    ]


def _fingerprint(study: Study, subject: SubjectFiles, published: Path | None) -> str:
    """Hash of everything that the result depends on: images, settings, seed and code."""
    images = [subject.flair, subject.t1, subject.lesions, subject.true_regions, published]
    images.append(segmentation_beside(subject.t1))
    words = (study.regions.model_dump_json(), str(study.seed_for("regions", subject.id)))
    contents = [path for path in images if path]
    return fingerprint(contents, code_of("wmh.atlas.labelling"), *words, *map(str, images))
