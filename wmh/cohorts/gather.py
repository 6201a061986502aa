"""A study's cohort: subjects found, checked, each brought to one grid, and divided into splits.

Writes ``cohort.csv`` (one row per usable subject) and ``left_out.csv`` (who was left out, and why).
Every later stage shows the latter beside its numbers.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from functools import partial

import pandas as pd

from wmh.cohorts.align import WRONG_HEADER_MM, bring_t1_to_flair
from wmh.cohorts.challenge import missing_subjects
from wmh.cohorts.check import add_duplicates, map_subjects, read_subject
from wmh.cohorts.cohort import UNDECIDED, CohortError, Found, write_cohort
from wmh.cohorts.sources import decide_splits, find_subjects
from wmh.files import write_table
from wmh.images import same_grid, save_image
from wmh.study import Study, project_root

LEFT_OUT_COLUMNS = ["id", "split", "scanner", "problems"]


def gather_cohort(study: Study) -> pd.DataFrame:
    """Write the cohort table of a study and the list of subjects left out; return the table.

    Raises :class:`CohortError` when subjects are unusable, unless the study may continue without
    them (``cohort.leave_out_unusable``), and when a split would be empty.
    """
    settings = study.cohort
    layout = "challenge" if settings.source in ("simulated", "challenge") else settings.source
    found = find_subjects(study.cohort_folder, layout)
    if settings.source == "challenge" and (missing := missing_subjects(study.cohort_folder, "all")):
        warnings.warn(
            f"{study.cohort_folder}: {len(missing)} of the challenge's 170 subjects are missing or "
            f"incomplete ({', '.join(missing[:3])}, ...); `wmh fetch challenge` brings them",
            stacklevel=2,
        )
    if settings.further is not None:
        for one in find_subjects(project_root() / settings.further, "csv"):
            split = "training" if one.subject.split == UNDECIDED else one.subject.split
            found.append(replace(one, subject=replace(one.subject, split=split, further=True)))
    rows = map_subjects(partial(prepare_subject, study=study), found, "cohort")
    for warning in (warning for row in rows for warning in row.warnings):
        warnings.warn(warning, stacklevel=2)
    rows = add_duplicates(rows)
    usable = [row for row in rows if row.usable]
    unusable = [row for row in rows if not row.usable]
    if unusable and not settings.leave_out_unusable:
        shown = [str(row.problems[0]) for row in unusable[:5]] + ["..."] * (len(unusable) > 5)
        listed = "\n  ".join(shown)
        raise CohortError(
            f"{len(unusable)} of {len(rows)} subjects cannot be used:\n  {listed}\n"
            "`wmh check` names every problem and its remedy. To continue without these subjects, "
            "set cohort.leave_out_unusable: true in the study's file"
        )
    subjects = decide_splits(
        [row.subject for row in usable], settings.test_share, study.seed_for("splits")
    )
    for split in ("training", "test"):
        if not any(subject.split == split for subject in subjects):
            raise CohortError(
                f"{study.cohort_folder}: no usable subject in the {split} split. A study trains on "
                "some people and tests on others: add people, or change their split. `wmh check` "
                "names the problems of unusable ones"
            )
    left_out = [
        (row.subject.id, row.subject.split, row.subject.scanner, " ".join(map(str, row.problems)))
        for row in unusable
    ]
    write_table(pd.DataFrame(left_out, columns=LEFT_OUT_COLUMNS), study.results / "left_out.csv")
    described = [
        describe(replace(row, subject=subject))
        for row, subject in zip(usable, subjects, strict=True)
    ]
    return write_cohort(described, study.results / "cohort.csv")


def prepare_subject(found: Found, study: Study) -> Found:
    """Read and check a subject; if it is usable, bring its T1 to the FLAIR's grid where needed."""
    row, flair, t1 = read_subject(found)
    register, identity = study.cohort.register_t1, found.subject.id
    if not row.usable or (same_grid(t1, flair) and not register):
        return row
    aligned, offset = bring_t1_to_flair(t1, flair, register, study.seed_for("align", identity))
    path = save_image(study.results / "aligned" / f"{identity}_t1.nii.gz", aligned.data, flair)
    row = replace(row, subject=replace(row.subject, t1=path))
    if register or offset <= WRONG_HEADER_MM:
        return row
    warning = (
        f"{t1.path}: by the headers it lies {offset:.1f} mm off its FLAIR. Look at the two "
        "together; cohort.register_t1: true moves it rigidly onto the FLAIR"
    )
    return replace(row, warnings=(*row.warnings, warning))


def describe(row: Found) -> dict[str, object]:
    """A checked subject as a row of the cohort table: volumes in ml, voxel sizes in mm."""
    return {
        **asdict(row.subject),
        **dict(zip(("nx", "ny", "nz"), row.shape, strict=True)),
        **dict(zip(("voxel_x_mm", "voxel_y_mm", "voxel_z_mm"), row.voxel_size_mm, strict=True)),
        "orientation": row.orientation,
        "lesion_ml": row.lesion_ml,
        "other_pathology_ml": row.other_pathology_ml,
    }
