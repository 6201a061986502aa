"""Tables written by users: their rows, and the subjects that they list."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from wmh.cohorts.cohort import (
    ABSENT_REMEDY,
    NEEDED,
    NO_SCAN_REMEDY,
    PATHS,
    UNDECIDED,
    UNKNOWN_SCANNER,
    CohortError,
    Found,
    Problem,
    Subject,
    as_word,
    split_problems,
)
from wmh.settings import at_home

MISSING = {"", "n/a", "na", "nan", "none", "null", "-", "--", "?"}
"""Words, in either case, that people write into a cell whose value they do not know."""

SURPLUS = "the row has more cells than the first row has column names"
SURPLUS_REMEDY = 'Put a cell that holds the separator in quotes ("a,b"), or remove the extra cell'


def read_table(path: Path, lower_case: bool = False) -> pd.DataFrame:
    """Read a table as text as :func:`read_rows` does, and check that no row has too many cells.

    Raises :class:`CohortError` for a row with more cells than columns.
    """
    table, surplus = read_rows(path, lower_case)
    if surplus:
        raise CohortError(f"{path}, line {surplus[0]}: {SURPLUS}. {SURPLUS_REMEDY}")
    return table


def read_rows(path: Path, lower_case: bool = False) -> tuple[pd.DataFrame, list[int]]:
    """Read a table with a header row, separated by comma, semicolon or tab.

    Returns the cells as text (NaN where missing), indexed by their line in the file, and the
    numbers of lines with more cells than columns, whose cells may be shifted. ``lower_case`` turns
    the column names to lower case.

    Excel's first line ``sep=;`` is understood. Cells are kept as written: ``001`` keeps its zeros.
    Raises :class:`CohortError` for a file that is not such a table.
    """
    if path.is_dir():
        raise CohortError(f"{path}: is a folder. Name the table in it; a BIDS folder is no table")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CohortError(f"{path}: cannot be read ({error.strerror}). Check the path") from error
    except UnicodeDecodeError as error:
        remedy = "Save it as CSV in UTF-8"
        if ".nii" in path.suffixes:
            remedy = "Give a single scan with --flair or --t1"
        raise CohortError(f"{path}: not a text table. {remedy}") from error
    said = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)
    text = text[said.end() :] if said else text
    separator = said[1] if said else max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header, *lines = [(reader.line_num + bool(said), cells) for cells in reader] or [(1, [])]
    except csv.Error as error:
        raise CohortError(
            f"{path}: line {reader.line_num + bool(said)} cannot be read ({error}). Check that "
            "every quotation mark is closed"
        ) from error
    columns = [name.strip().lower() if lower_case else name.strip() for name in header[1]]
    twice = [name for name, count in Counter(filter(None, columns)).items() if count > 1]
    if twice:
        raise CohortError(f"{path}: two columns have the name {twice[0]}. Keep one of them")
    rows, surplus = {}, []
    for line, cells in lines:
        written = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
        known = {name: cell for name, cell in written.items() if cell.lower() not in MISSING}
        if any(cell.strip() for cell in cells[len(columns) :]):
            surplus.append(line)
        if known or line in surplus[-1:]:
            rows[line] = known
    names = list(dict.fromkeys(columns))
    return pd.DataFrame([*rows.values()], index=[*rows], columns=names, dtype=object), surplus


def find_csv(path: Path, needed: Collection[str] = NEEDED) -> list[Found]:
    """Subjects of a CSV file with a header row; see :func:`read_rows`.

    Columns: id, flair, t1, lesions, and if known split (training, test), scanner, true_regions.
    Paths are relative to the file's folder; an empty cell means that there is no such image.
    """
    table, surplus = read_rows(path, lower_case=True)
    missing = [name for name in ("id", *needed) if name not in table.columns]
    if not needed and not {"flair", "t1"} & set(table.columns):
        missing.append("flair or t1")
    if missing:
        expected = ", ".join(("id", *needed)) if needed else "id, and flair, t1 or both"
        raise CohortError(
            f"{path}: no column {', '.join(missing)} in the first row "
            f"({', '.join(table.columns)[:60]}). The first row must name the columns {expected}"
        )
    return [
        _csv_subject(path, line, row.dropna().to_dict(), line in surplus, needed)
        for line, row in table.iterrows()
    ]


def _csv_subject(
    table: Path, line: int, cells: dict[str, str], surplus: bool, needed: Collection[str]
) -> Found:
    images = {
        name: table.parent / at_home(Path(cells[name])) if name in cells else None for name in PATHS
    }
    subject = Subject(
        id=cells.get("id", f"line {line}"),
        split=cells.get("split", UNDECIDED),
        scanner=as_word(cells.get("scanner", "")) or UNKNOWN_SCANNER,
        **images,
    )
    place = f"{table}, {subject.id}"
    if surplus:
        return Found(subject, (Problem(place, SURPLUS, SURPLUS_REMEDY),))
    problems = split_problems(subject)
    problems += [
        Problem(place, f"no {column}", ABSENT_REMEDY) for column in needed if column not in cells
    ]
    if not needed and not {"flair", "t1"} & set(cells):
        problems.append(Problem(place, "no flair and no t1", NO_SCAN_REMEDY))
    if "id" not in cells:
        problems.append(Problem(place, "no id", "Give every subject an id of its own"))
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", subject.id):
        remedy = "Use letters, digits, '-', '_' and '.', beginning with a letter or digit"
        problem = f"the id {subject.id!r} cannot be used as a file name"
        problems.append(Problem(str(table), problem, remedy))
    return Found(subject, tuple(problems))
