"""Measures of many predictions at once, as one tidy table.

The table has one row a number: subject, scanner, model, inputs_given, repeat, structure, metric,
value. ``repeat`` counts the trainings of a model; ``structure`` is ``lesions``, ``region_01`` ..
``region_36`` or ``regions_mean``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.analysis.further_metrics import (
    calibration_metrics,
    further_lesion_metrics,
    region_metrics,
)
from wmh.analysis.metrics import FIVE_MEASURES, REGION_COUNT, five_measures, lesion_pair
from wmh.cohorts.cohort import LESION_LABELS, Subject
from wmh.cores import cores_here
from wmh.images import Image, ImageError, load_labels, same_grid

COLUMNS = (
    *("subject", "scanner", "model", "inputs_given", "repeat"),
    *("structure", "metric", "value"),
)

PREDICTION_ENDINGS = (".nii.gz", "_lesions.nii.gz", "/result.nii.gz", "/lesions.nii.gz")


@dataclass(frozen=True)
class Case:
    """One prediction beside its truth, and what it is a prediction of.

    Either of ``lesions`` and ``regions`` may be missing, in truth and prediction alike.
    ``probability`` is the predicted probability of lesion.
    """

    subject: str
    scanner: str
    model: str
    inputs_given: str
    true_lesions: Path | None = None
    lesions: Path | None = None
    probability: Path | None = None
    true_regions: Path | None = None
    regions: Path | None = None
    repeat: int = 1


def evaluate(cases: Sequence[Case], jobs: int | None = None) -> pd.DataFrame:
    """Measure every case; a tidy table in the order of the cases, whatever ``jobs`` is.

    Raises :class:`ImageError`, which names the file, for a prediction that is missing, broken or on
    another grid than its truth: a subject that failed is never left out in silence.
    """
    if not cases:
        return pd.DataFrame(columns=list(COLUMNS))
    # threads: reading, distances and array arithmetic all let go of Python's lock
    with ThreadPoolExecutor(jobs or cores_here()) as pool:
        found = pool.map(evaluate_case, cases)
        tables = list(tqdm(found, "evaluated", len(cases), disable=len(cases) == 1))
    return pd.concat(tables, ignore_index=True)


def evaluate_case(case: Case) -> pd.DataFrame:
    """All measures of one case, as tidy rows."""
    found: dict[str, dict[str, float]] = {}
    if case.lesions is not None:
        found["lesions"] = lesion_file_metrics(case.true_lesions, case.lesions, case.probability)
    if case.regions is not None:
        found |= _region_file_metrics(case.true_regions, case.regions)
    about = (case.subject, case.scanner, case.model, case.inputs_given, case.repeat)
    rows = [
        (*about, structure, metric, value)
        for structure, measures in found.items()
        for metric, value in measures.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lesion_file_metrics(
    truth: Path, prediction: Path, probability: Path | None = None
) -> dict[str, float]:
    """The challenge's five measures of two files, then the further ones.

    The truth holds 0, 1 and 2 (other pathology, left out). Raises :class:`ImageError`.
    """
    true = load_labels(truth, LESION_LABELS, sided=False)
    predicted = _on_grid_of(true, load_labels(prediction, LESION_LABELS, sided=False))
    pair = lesion_pair(true.data, predicted.data, true.affine)
    found = five_measures(pair) | further_lesion_metrics(pair)
    if probability is not None:
        likely = _on_grid_of(true, _load_probability(probability))
        found |= calibration_metrics(true.data, likely.data)
    return found


def five_of_subjects(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The challenge's five measures of each subject of a table that holds one model."""
    return _five(table, table["subject"].astype(str))


def five_of_configurations(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The challenge's five measures of each model and what it was given, mean over subjects."""
    return _five(table, table["model"] + " (" + table["inputs_given"] + ")")


def mean_of(measures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each measure over subjects, without those who have none."""
    return pd.DataFrame(measures).mean(axis=1).to_dict()


def as_json(measures: dict) -> str:
    """Measures as JSON; what is NaN becomes null."""
    return json.dumps(_null_for_nan(measures), indent=2)


def observer_cases(folder: Path, subjects: Sequence[Subject]) -> list[Case]:
    """The challenge's additional observers as cases, one an observer and subject.

    They lie in ``additional_annotations/observer_*/`` beside ``training/``; where the data come
    without them the list is empty. Their measures are the human ceiling of any model.
    """
    found = []
    for observer in sorted((folder / "additional_annotations").glob("observer_*")):
        for subject in subjects:
            place = subject.lesions.parent.relative_to(folder)
            mask = observer / place / "result.nii.gz"
            if mask.exists():
                case = Case(
                    subject.id, subject.scanner, observer.name, "FLAIR+T1", subject.lesions, mask
                )
                found.append(case)
    return found


def find_pairs(truth: Path | str, prediction: Path | str) -> list[Case]:
    """Truths and predictions of two folders, or of two files, as cases named by their file.

    Files pair by their path below the folder. A truth that lies one in a folder, as in the
    challenge (``ID/wmh.nii.gz``), is named by that folder, and any truth ``ID`` pairs with
    ``ID.nii.gz``, ``ID_lesions.nii.gz``, ``ID/result.nii.gz`` or ``ID/lesions.nii.gz`` as well.
    Raises :class:`ImageError` when a truth has no prediction, or when there is no truth at all.
    """
    truth, prediction = Path(truth), Path(prediction)
    if not truth.is_dir():
        return [_named_case(_name(truth), truth, prediction)]
    truths = sorted(truth.rglob("wmh.nii.gz")) or sorted(truth.rglob("*.nii*"))
    if not truths:
        raise ImageError(
            truth, "no NIfTI image below this folder", "Give the folder that holds the truths"
        )
    return [
        _named_case(_name(file), file, _prediction_of(file, truth, prediction)) for file in truths
    ]


def _five(table: pd.DataFrame, names: pd.Series) -> dict[str, dict[str, float]]:
    """Means of the five measures of lesions by name, in the order of the table."""
    wanted = (table["structure"] == "lesions") & table["metric"].isin(FIVE_MEASURES)
    means = table[wanted].groupby([names[wanted], "metric"], sort=False)["value"].mean()
    return {
        name: {metric: float(means[name, metric]) for metric in FIVE_MEASURES}
        for name in dict.fromkeys(names[wanted])
    }


def _null_for_nan(value: object) -> object:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _null_for_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _region_file_metrics(truth: Path, prediction: Path) -> dict[str, dict[str, float]]:
    labels = range(REGION_COUNT + 1)
    true = load_labels(truth, labels)
    predicted = _on_grid_of(true, load_labels(prediction, labels))
    return region_metrics(true.data, predicted.data, true.affine)


def _load_probability(path: Path) -> Image:
    """A probability map; unlike a scan it may be constant, when a model finds nothing."""
    file = nib.load(path)
    return Image(np.asanyarray(file.dataobj, dtype=np.float32), file.affine, path)


def _on_grid_of(truth: Image, prediction: Image) -> Image:
    if not same_grid(truth, prediction):
        raise ImageError(
            prediction.path,
            f"lies on another grid than {truth.path}",
            "Resample it to the truth's grid with nearest neighbours",
        )
    return prediction


def _prediction_of(file: Path, truths: Path, predictions: Path) -> Path:
    """The prediction that belongs to one truth file."""
    name = _name(file)
    candidates = [
        predictions / file.relative_to(truths),
        *(predictions / f"{name}{ending}" for ending in PREDICTION_ENDINGS),
    ]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise ImageError(
            predictions,
            f"no prediction for {file}",
            f"Expected one of {', '.join(str(path) for path in candidates)}",
        )
    return found


def _named_case(name: str, truth: Path, prediction: Path) -> Case:
    return Case(name, "", "", "", true_lesions=truth, lesions=prediction)


def _name(truth: Path) -> str:
    """What a truth file is called: its folder's name in the challenge's layout, else its own."""
    return truth.parent.name if truth.name == "wmh.nii.gz" else truth.name.split(".nii")[0]
