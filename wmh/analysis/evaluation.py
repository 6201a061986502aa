"""Measures of many predictions at once, as one tidy table.

The table has one row per value, with the columns subject, scanner, model, inputs_given, repeat,
structure, metric and value. ``repeat`` is the number of a model's training; ``structure`` is
``lesions``, ``region_01`` .. ``region_36`` or ``regions_mean``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from wmh.analysis.metrics import (
    FIVE_MEASURES,
    calibration_metrics,
    five_measures,
    further_lesion_metrics,
    lesion_pair,
    region_metrics,
)
from wmh.atlas.regions import ALL_LABELS
from wmh.cohorts.bids import (
    bids_name,
    is_in_native_space,
    is_lesion_mask,
    is_scan,
    own_predictions,
)
from wmh.cohorts.cohort import LESION_LABELS, Subject
from wmh.cores import cores_here
from wmh.images import Image, ImageError, load_labels, same_grid

COLUMNS = (
    *("subject", "scanner", "model", "inputs_given", "repeat"),
    *("structure", "metric", "value"),
)

_WHAT_IT_IS = r"(wmh|lesions?|lesion_?mask|mask|seg|result|truth|prediction|pred|manual|gt)"
"""Words at the end of a mask's name that do not name the subject."""


@dataclass(frozen=True)
class Case:
    """One prediction with its truth, subject and model.

    Either lesions or regions may be missing, then in truth and prediction. ``probability`` is the
    predicted probability of lesion.
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
    """Measure every case; returns a tidy table in the order of the cases.

    Raises :class:`ImageError`, which names the file, for a prediction that is missing, broken or on
    another grid than its truth; no subject is left out silently.
    """
    if not cases:
        return pd.DataFrame(columns=list(COLUMNS))
    # threads are enough: reading, distances and array arithmetic release Python's lock
    with ThreadPoolExecutor(jobs or cores_here()) as pool:
        found = pool.map(evaluate_case, cases)
        tables = list(tqdm(found, "evaluated", len(cases), disable=len(cases) == 1))
    return pd.concat(tables, ignore_index=True)


def evaluate_case(case: Case) -> pd.DataFrame:
    """All measures of one case as tidy rows, the challenge's five first."""
    found: dict[str, dict[str, float]] = {}
    if case.lesions is not None:
        true = load_labels(case.true_lesions, LESION_LABELS, sided=False)
        predicted = _on_grid_of(true, load_labels(case.lesions, LESION_LABELS, sided=False))
        pair = lesion_pair(true.data, predicted.data, true.affine)
        found["lesions"] = five_measures(pair) | further_lesion_metrics(pair)
        if case.probability is not None:
            file = nib.load(case.probability)  # not load_image: a probability may be 0 everywhere
            data = np.asanyarray(file.dataobj, dtype=np.float32)
            likely = _on_grid_of(true, Image(data, file.affine, case.probability))
            found["lesions"] |= calibration_metrics(true.data, likely.data)
    if case.regions is not None:
        true = load_labels(case.true_regions, ALL_LABELS)
        predicted = _on_grid_of(true, load_labels(case.regions, ALL_LABELS))
        found |= region_metrics(true.data, predicted.data, true.affine)
    about = (case.subject, case.scanner, case.model, case.inputs_given, case.repeat)
    rows = [
        (*about, structure, metric, value)
        for structure, measures in found.items()
        for metric, value in measures.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def five_of_subjects(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The challenge's five measures of each subject, from a table with one model."""
    return _five_by(table, table["subject"].astype(str))


def five_of_configurations(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The challenge's five measures of each model and given images, averaged over subjects."""
    return _five_by(table, table["model"] + " (" + table["inputs_given"] + ")")


def mean_of(measures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each measure over the subjects that have a value."""
    return pd.DataFrame(measures).mean(axis=1).to_dict()


def means_with_n(metrics: pd.DataFrame, rows: list[str], column: str) -> pd.DataFrame:
    """Mean of each group of a table of measures, as ``0.712 (n = 8)``; n is that of subjects."""
    known = metrics.dropna(subset="value").groupby([*rows, column], sort=False)
    means = known.agg(mean=("value", "mean"), n=("subject", "nunique")).reset_index()
    means["shown"] = [f"{row.mean:.3f} (n = {row.n})" for row in means.itertuples()]
    return means.pivot_table("shown", rows, column, aggfunc="first", sort=False).fillna("–")


def undefined_note(metrics: pd.DataFrame) -> str:
    """A note on why HD95 of lesions is undefined, and for how many predictions of which models."""
    lesions = metrics[metrics["structure"] == "lesions"]
    if lesions.empty:
        return "No model of this study predicts lesions."
    about = ["model", "inputs_given", "subject", "repeat"]
    found = lesions.pivot_table("value", about, "metric", sort=False)
    no_truth = found["volume_truth_ml"] == 0
    empty = found[~no_truth & (found["volume_prediction_ml"] == 0)]
    by_model = empty.groupby(["model", "inputs_given"], sort=False).size()
    named = ", ".join(f"{model} given {given} {n}" for (model, given), n in by_model.items())
    return (
        f"HD95 is a distance between two surfaces. Of {len(found)} predictions of lesions, it is "
        f"undefined for {len(empty)} that are empty{f' ({named})' * bool(named)} and for "
        f"{no_truth.sum()} whose truth is empty."
    )


def as_json(measures: dict) -> str:
    """Measures as JSON; NaN becomes null, because JSON has no NaN."""
    plain = json.loads(json.dumps(measures), parse_constant=lambda _: None)
    return json.dumps(plain, indent=2)


def observer_cases(folder: Path, subjects: Sequence[Subject]) -> list[Case]:
    """The challenge's additional observers as cases, one per observer and subject.

    Their masks are in ``additional_annotations/observer_*/`` beside ``training/``; the list is
    empty if there are none. Their measures show how far experts differ.
    """
    found = []
    own = [one for one in subjects if not one.further]  # further people have no observers
    for observer in sorted((folder / "additional_annotations").glob("observer_*")):
        for subject in own:
            place = subject.lesions.parent.relative_to(folder)
            mask = observer / place / "result.nii.gz"
            if mask.exists():
                case = Case(
                    subject.id, subject.scanner, observer.name, "FLAIR+T1", subject.lesions, mask
                )
                found.append(case)
    return found


@dataclass(frozen=True)
class Pairs:
    """Pairs of truth and prediction, and what was left out.

    ``unpaired`` has a line for each truth without a prediction or with several, ``unused`` for each
    prediction without a truth. ``no_masks`` are files that are not lesion masks.
    """

    cases: list[Case]
    unpaired: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    no_masks: list[Path] = field(default_factory=list)

    def note(self) -> str:
        """A text on the pairs, and on what was left out."""
        first = self.cases[0]
        lines = [
            f"{len(self.cases)} pairs, such as {first.subject}: {first.true_lesions} and "
            f"{first.lesions}",
            *(f"left out, {line}" for line in (*self.unpaired, *self.unused)),
        ]
        if self.no_masks:
            shown = ", ".join(map(str, self.no_masks[:3])) + ", ..." * (len(self.no_masks) > 3)
            lines.append(f"{len(self.no_masks)} files are not used as lesion masks: {shown}")
        return "\n".join(lines)


def find_pairs(truth: Path | str, prediction: Path | str) -> Pairs:
    """Pair the truths and predictions of two folders, or two files, as cases named by subject.

    A folder's lesion masks are the files whose names say so (``wmh.nii.gz``, ``*_label-WMH_mask``);
    if there are none, all files that hold only 0, 1 and 2. Scans are never used as masks. Masks are
    paired by their path below the folder, or by subject and session: ``sub-1_ses-a`` in a BIDS
    name, the folder of ``ID/wmh.nii.gz`` or ``ID/result.nii.gz``, or the ID in
    ``ID_lesions.nii.gz``. Predictions of ``wmh predict`` pair with the truth of the same subject.
    Raises :class:`ImageError` when nothing pairs.
    """
    truth, prediction = Path(truth), Path(prediction)
    if not truth.is_dir():
        return Pairs([_named_case(subject_of(truth), truth, prediction)])
    if not prediction.is_dir() or prediction.absolute() == truth.absolute():
        remedy = f"Give the folder with the predictions for the truths in {truth}"
        raise ImageError(prediction, "is not a folder of predictions", remedy)
    made_here = {prediction.absolute(), *own_predictions(truth.absolute())}
    truths, no_truths = _lesion_masks(truth, without=made_here)
    predictions, no_predictions = _lesion_masks(prediction, without={truth.absolute()})
    pairs = Pairs([], no_masks=no_truths + no_predictions)
    count = Counter(map(subject_of, truths))
    for file in truths:
        name, below = subject_of(file), file.relative_to(truth)
        if (prediction / below) in predictions:
            found, rivals = [prediction / below], []
        else:
            found, rivals = (
                [other for other in others if is_same_subject(name, subject_of(other))]
                for others in (predictions, truths)
            )
        if len(found) == 1 and len(rivals) <= 1:
            name = name if count[name] == 1 else below.as_posix()
            pairs.cases.append(_named_case(name, file, found[0]))
        else:
            several = found if len(found) > 1 else rivals if found else []
            clash = f"several files could be its pair: {', '.join(map(str, several))}"
            pairs.unpaired.append(f"{file}: {clash if several else 'no prediction'}")
    if not pairs.cases:
        why = pairs.unpaired[0] if truths else f"no lesion mask below {truth}"
        remedy = "Name masks after their subjects in both folders, for instance ID_lesions.nii.gz"
        raise ImageError(prediction, f"no prediction has a truth ({why})", remedy)
    used = {case.lesions for case in pairs.cases}
    pairs.unused.extend(f"{file}: no truth" for file in predictions if file not in used)
    return pairs


def subject_of(mask: Path) -> str:
    """The subject of a lesion mask, from its file name or, if that names none, from its folder.

    >>> subject_of(Path("sub-1/ses-a/anat/sub-1_ses-a_label-WMH_mask.nii.gz"))
    'sub-1_ses-a'
    >>> subject_of(Path("test/12/wmh.nii.gz")), subject_of(Path("12_lesions.nii.gz"))
    ('12', '12')
    """
    stem = mask.name.partition(".nii")[0]
    bids = re.match(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(?=_|$)", stem)
    if bids:
        return bids[0]
    return re.sub(rf"((^|[_-]){_WHAT_IT_IS})+$", "", stem, flags=re.IGNORECASE) or mask.parent.name


def is_same_subject(first: str, second: str) -> bool:
    """Whether two names mean the same subject and, if both name a session, the same session."""
    (person, _, session), (other, _, theirs) = (
        bids_name(name).partition("_ses-") for name in (first, second)
    )
    return person == other and (session == theirs or not (session and theirs))


def _five_by(table: pd.DataFrame, names: pd.Series) -> dict[str, dict[str, float]]:
    """Mean of the five measures of lesions for each of ``names``, in the table's order."""
    lesions = table[table["structure"] == "lesions"].assign(name=names)
    means = lesions.groupby(["name", "metric"], sort=False)["value"].mean()
    return {
        name: {metric: float(means[name, metric]) for metric in FIVE_MEASURES}
        for name in lesions["name"].unique()
    }


def _on_grid_of(truth: Image, prediction: Image) -> Image:
    if not same_grid(truth, prediction):
        raise ImageError(
            prediction.path,
            f"lies on another grid than {truth.path}",
            "Resample the prediction to the truth's grid with nearest-neighbour interpolation",
        )
    return prediction


def _lesion_masks(folder: Path, without: set[Path]) -> tuple[list[Path], list[Path]]:
    """The lesion masks below a folder, and its other images; folders in ``without`` are skipped."""
    below = {place for place in without if folder.absolute() in place.parents}
    files = [
        file
        for file in sorted(folder.rglob("*.nii*"))
        if file.name.endswith((".nii", ".nii.gz")) and below.isdisjoint(file.absolute().parents)
    ]
    masks = [file for file in files if is_lesion_mask(file.name)]
    masks = masks or [file for file in files if not is_scan(file.name) and _holds_lesions(file)]
    native = [file for file in masks if is_in_native_space(file.name)]
    masks = native or masks
    return masks, [file for file in files if file not in masks]


def _holds_lesions(file: Path) -> bool:
    try:
        return bool(load_labels(file, LESION_LABELS).data.size)
    except ImageError:
        return False


def _named_case(name: str, truth: Path, prediction: Path) -> Case:
    return Case(name, "", "", "", true_lesions=truth, lesions=prediction)
