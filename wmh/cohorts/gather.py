"""A study's cohort: its subjects found, checked, brought to one grid each and parted into splits.

Writes ``cohort.csv`` (one row a usable subject) and ``left_out.csv`` (who was left out, and why),
which every later stage shows beside its numbers.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from wmh.cohorts.align import bring_t1_to_flair
from wmh.cohorts.check import Checked, check_subjects, offset_warnings
from wmh.cohorts.cohort import CohortError, Subject, describe, write_cohort
from wmh.cohorts.sources import decide_splits, find_subjects
from wmh.images import load_image, same_grid, save_image
from wmh.study import Study

LEFT_OUT_COLUMNS = ["id", "split", "scanner", "problems"]


def gather_cohort(study: Study) -> pd.DataFrame:
    """Make the cohort table of a study and the list of those left out; returns the table.

    Raises :class:`CohortError`, which names every unusable subject, unless the study's settings
    allow to go on without (``cohort.leave_out_unusable``), and when a split would be empty.
    """
    settings = study.cohort
    layout = "challenge" if settings.source in ("simulated", "challenge") else settings.source
    rows = check_subjects(find_subjects(study.cohort_folder, layout))
    unusable = [row for row in rows if not row.usable]
    if unusable and not settings.leave_out_unusable:
        raise CohortError(_why_not(unusable, len(rows)))
    subjects = [row.subject for row in rows if row.usable]
    subjects = decide_splits(subjects, settings.test_share, study.seed_for("splits"))
    for split in ("training", "test"):
        if not any(subject.split == split for subject in subjects):
            raise CohortError(f"{study.cohort_folder}: no usable subject in the {split} split")
    described = [
        describe(_on_one_grid(subject, study)) for subject in tqdm(subjects, "cohort", leave=False)
    ]
    _write_left_out(unusable, study.results)
    return write_cohort(described, study.results / "cohort.csv")


def read_left_out(results: Path) -> pd.DataFrame:
    """Who was left out of a study and why, from its results folder: one row a subject."""
    return pd.read_csv(results / "left_out.csv", dtype=str, keep_default_na=False)


def left_out_note(results: Path) -> str:
    """One sentence to stand beside a study's numbers: who was left out.

    >>> left_out_note(study.results)  # doctest: +SKIP
    'No subject was left out.'
    """
    table = read_left_out(results)
    if table.empty:
        return "No subject was left out."
    names, count = ", ".join(table["id"]), len(table)
    subjects = "subject was" if count == 1 else "subjects were"
    return f"{count} {subjects} left out as unusable ({names}); left_out.csv says why."


def _on_one_grid(subject: Subject, study: Study) -> Subject:
    """The subject with its T1 on the FLAIR's grid, in a file of the study's own where needed."""
    flair, t1 = load_image(subject.flair), load_image(subject.t1)
    if same_grid(t1, flair) and not study.cohort.register_t1:
        return subject
    seed = study.seed_for("align", subject.id)
    aligned, offset = bring_t1_to_flair(t1, flair, study.cohort.register_t1, seed)
    if not study.cohort.register_t1:
        for warning in offset_warnings(t1, offset):
            warnings.warn(warning, stacklevel=2)
    path = study.results / "aligned" / f"{subject.id}_t1.nii.gz"
    return replace(subject, t1=save_image(path, aligned.data, flair))


def _write_left_out(unusable: list[Checked], results: Path) -> None:
    rows = [
        {
            "id": row.subject.id,
            "split": row.subject.split,
            "scanner": row.subject.scanner,
            "problems": " ".join(str(problem) for problem in row.problems),
        }
        for row in unusable
    ]
    results.mkdir(parents=True, exist_ok=True)
    temporary = results / "left_out.part"
    pd.DataFrame(rows, columns=LEFT_OUT_COLUMNS).to_csv(temporary, index=False)
    temporary.replace(results / "left_out.csv")


def _why_not(unusable: list[Checked], count: int) -> str:
    shown = [str(row.problems[0]) for row in unusable[:5]] + ["..."] * (len(unusable) > 5)
    listed = "\n  ".join(shown)
    return (
        f"{len(unusable)} of {count} subjects cannot be used:\n  {listed}\n"
        "`wmh check` names every problem and its remedy; cohort.leave_out_unusable: true in the "
        "study's file goes on without these subjects"
    )
