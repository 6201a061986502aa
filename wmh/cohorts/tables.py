"""Subjects of a CSV table: a row each, that names the images."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from pathlib import Path

from wmh.cohorts.cohort import CohortError, Subject
from wmh.cohorts.found import (
    ABSENT_REMEDY,
    NEEDED,
    NO_SCAN_REMEDY,
    UNDECIDED,
    UNKNOWN_SCANNER,
    Found,
    Problem,
    as_word,
    split_problems,
)

CSV_COLUMNS = ("id", *NEEDED)
"""Columns a study's CSV must have; ``split``, ``scanner``, ``true_regions`` may stand beside."""


def find_csv(path: Path, needed: Collection[str] = NEEDED) -> list[Found]:
    """Subjects of a CSV file with a header row; separated by comma, semicolon or tab.

    Columns: id, flair, t1, lesions, and if known split (training, test), scanner, true_regions.
    Paths are relative to the file's folder; an empty cell means that there is no such image.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise CohortError(f"{path}: not a text table. Save it as CSV in UTF-8") from error
    separator = max(",;\t", key=header.count)
    columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]
    missing = [name for name in ("id", *needed) if name not in columns]
    if not needed and not {"flair", "t1"} & set(columns):
        missing.append("flair or t1")
    if missing:
        expected = ", ".join(("id", *needed)) if needed else "id, and flair, t1 or both"
        raise CohortError(
            f"{path}: no column {', '.join(missing)} in its first row ({header.strip()[:60]}). "
            f"The first row must name the columns: {expected}"
        )
    rows = [
        dict(zip(columns, map(str.strip, cells), strict=False))
        for cells in csv.reader(lines, delimiter=separator)
        if any(cells)
    ]
    return [_csv_subject(path, row, needed) for row in rows]


def _csv_subject(table: Path, row: dict[str, str], needed: Collection[str]) -> Found:
    def image(column: str) -> Path | None:
        return table.parent / row[column] if row.get(column) else None

    subject = Subject(
        id=row["id"],
        split=row.get("split", UNDECIDED),
        scanner=as_word(row.get("scanner", "")) or UNKNOWN_SCANNER,
        flair=image("flair"),
        t1=image("t1"),
        lesions=image("lesions"),
        true_regions=image("true_regions"),
    )
    problems = split_problems(subject)
    problems += [
        Problem(f"{table}, {subject.id}", f"no {column}", ABSENT_REMEDY)
        for column in needed
        if not row.get(column)
    ]
    if not needed and not (row.get("flair") or row.get("t1")):
        problems.append(Problem(f"{table}, {subject.id}", "no flair and no t1", NO_SCAN_REMEDY))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", subject.id):
        remedy = "Use letters, digits, '-', '_' and '.', beginning with a letter or digit"
        problems.append(Problem(str(table), f"id {subject.id!r} cannot name a file", remedy))
    return Found(subject, tuple(problems))
