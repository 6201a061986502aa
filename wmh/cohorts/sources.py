"""Subjects in the layouts they come in: the challenge's tree, a BIDS folder, a CSV table.

What is found here has not been opened yet. A subject that cannot be told from its file names alone
(two T1 images, no FLAIR) is passed on with its problems, so that one report can name them all.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wmh.cohorts.cohort import CohortError, Subject, draw_people, find_challenge

Layout = Literal["challenge", "bids", "csv"]
SPLITS = ("training", "test")
UNDECIDED = ""
"""The split of a subject whose source does not say it."""
UNKNOWN_SCANNER = "unknown"
NEEDED = ("flair", "t1", "lesions")
"""The images a study needs of each subject. Prediction needs none by name: either scan will do."""
CSV_COLUMNS = ("id", *NEEDED)
"""Columns a study's CSV must have; ``split``, ``scanner``, ``true_regions`` may stand beside."""

ABSENT_REMEDY = "A study needs FLAIR, T1 and a lesion mask; a single scan goes to wmh predict"
NO_SCAN_REMEDY = "Give its FLAIR, its T1 or both"
OWN_PREDICTIONS = "wmh"
"""Name in ``GeneratedBy`` of the derivatives that this package writes: no truth lies there."""

_LESION_WORD = re.compile(r"lesion|wmh|wml|hyperintens", re.IGNORECASE)
_NO_MASK_SUFFIX = {"FLAIR", "T1w", "T2w", "probseg"}
_NATIVE_SPACES = {None, "FLAIR", "orig", "individual"}


@dataclass(frozen=True)
class Problem:
    """Something that keeps a subject from being used, and what to do about it."""

    file: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}. {self.remedy}."


@dataclass(frozen=True)
class Found:
    """A subject as its source names it, with what is wrong already."""

    subject: Subject
    problems: tuple[Problem, ...] = ()


def layout_of(path: Path | str) -> Layout:
    """The layout of a folder or file; raises :class:`CohortError` when it is none of the three."""
    path = Path(path)
    if path.is_file():
        return "csv"
    if not path.is_dir():
        raise CohortError(f"{path}: no such folder or file. Check the path")
    if any(path.glob("sub-*/")):
        return "bids"
    if any((path / split).is_dir() for split in SPLITS):
        return "challenge"
    raise CohortError(
        f"{path}: neither the challenge's layout (training/, test/) nor BIDS (sub-*/). Give one of "
        f"these, or a CSV file with the columns {', '.join(CSV_COLUMNS)}"
    )


def find_subjects(
    path: Path | str, layout: Layout | None = None, needed: Collection[str] = NEEDED
) -> list[Found]:
    """All subjects of a folder or CSV file, in order.

    ``needed`` are the images whose absence is a problem; with none, one scan or the other has to be
    there. Raises :class:`CohortError` when there is no subject, or the layout or table is not as
    expected.
    """
    path = Path(path)
    finders = {"challenge": _find_challenge, "bids": find_bids, "csv": find_csv}
    found = finders[layout or layout_of(path)](path, needed)
    if not found:
        raise CohortError(f"{path}: no subject found")
    return found


def find_bids(folder: Path, needed: Collection[str] = NEEDED) -> list[Found]:
    """Subjects of a BIDS folder, one for each session that has a FLAIR or a T1w image.

    Lesion masks are looked for under ``derivatives/``: files named after the subject (and session)
    whose name speaks of lesions, WMH or WML, but not in what ``wmh predict`` wrote.
    ``participants.tsv`` may say ``split`` and
    ``scanner``; without it, the scanner is read from the FLAIR's JSON sidecar.
    """
    participants = _participants(folder / "participants.tsv")
    own = _own_predictions(folder / "derivatives")
    masks = [
        p
        for p in sorted(folder.glob("derivatives/**/*"))
        if _is_lesion_mask(p) and own.isdisjoint(p.parents)
    ]
    found = []
    for person in sorted(p for p in folder.glob("sub-*") if p.is_dir()):
        sessions = [s for s in sorted(person.glob("ses-*")) if (s / "anat").is_dir()] or [person]
        pictured = [s for s in sessions if any(_images(s, "FLAIR") + _images(s, "T1w"))]
        for place in pictured or sessions[:1]:
            row = participants.get(person.name, {})
            found.append(_bids_subject(person, place, masks, row, len(pictured) == 1, needed))
    return found


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


def decide_splits(subjects: list[Subject], test_share: float, seed: int) -> list[Subject]:
    """Give every subject a split, where the source does not say it: all sessions of a person one.

    Raises :class:`CohortError` when some subjects have a split and others have none.
    """
    open_ones = [s.id for s in subjects if s.split == UNDECIDED]
    if not open_ones:
        return subjects
    if len(open_ones) < len(subjects):
        raise CohortError(
            f"{len(open_ones)} of {len(subjects)} subjects have no split ({open_ones[0]}, ...). "
            "Name training or test for all of them, or for none"
        )
    test = draw_people(subjects, test_share, seed)
    return [replace(s, split="test" if s.person in test else "training") for s in subjects]


def _find_challenge(folder: Path, needed: Collection[str]) -> list[Found]:
    """Subjects of the challenge's tree, where every image has its place, there or not."""
    return [Found(subject) for subject in find_challenge(folder)]


def _bids_subject(
    person: Path,
    place: Path,
    masks: Iterable[Path],
    row: dict[str, str],
    only_session: bool,
    needed: Collection[str],
) -> Found:
    identity = person.name if place == person else f"{person.name}_{place.name}"
    scans = _images(place, "FLAIR"), _images(place, "T1w")
    flair, flair_problems = _the_one(place, "FLAIR", scans[0], "flair" in needed)
    t1, t1_problems = _the_one(place, "T1w", scans[1], "t1" in needed)
    lesions, lesion_problems = None, []
    if "lesions" in needed:
        own = [m for m in masks if _belongs(m.name, person.name, place.name, only_session)]
        native = [m for m in own if _entity(m.name, "space") in _NATIVE_SPACES]
        lesions, lesion_problems = _the_one(place, "lesion mask", native or own)
    subject = Subject(
        id=identity,
        split=row.get("split", UNDECIDED),
        scanner=_word(row.get("scanner", "")) or _scanner_beside(flair),
        flair=flair,
        t1=t1,
        lesions=lesions,
    )
    problems = (*flair_problems, *t1_problems, *lesion_problems, *_split_problems(subject))
    if not needed and not any(scans):
        problems += (Problem(str(place), "no FLAIR and no T1w", NO_SCAN_REMEDY),)
    return Found(subject, problems)


def _csv_subject(table: Path, row: dict[str, str], needed: Collection[str]) -> Found:
    def image(column: str) -> Path | None:
        return table.parent / row[column] if row.get(column) else None

    subject = Subject(
        id=row["id"],
        split=row.get("split", UNDECIDED),
        scanner=_word(row.get("scanner", "")) or UNKNOWN_SCANNER,
        flair=image("flair"),
        t1=image("t1"),
        lesions=image("lesions"),
        true_regions=image("true_regions"),
    )
    problems = _split_problems(subject)
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


def _split_problems(subject: Subject) -> list[Problem]:
    if subject.split in (*SPLITS, UNDECIDED):
        return []
    return [
        Problem(
            subject.id,
            f"its split {subject.split!r} is not known",
            "Write training or test, or leave the column out to have it drawn",
        )
    ]


def _the_one(
    place: Path, kind: str, images: list[Path], needed: bool = True
) -> tuple[Path | None, list[Problem]]:
    """The only image of a kind; with several, or none that is needed, None and the problem."""
    if len(images) == 1:
        return images[0], []
    if not images and not needed:
        return None, []
    if not images:
        return None, [Problem(str(place), f"no {kind}", ABSENT_REMEDY)]
    names = ", ".join(image.name for image in images)
    remedy = "Keep one, or name the one to use in a CSV file"
    return None, [Problem(str(place), f"{len(images)} images could be its {kind}: {names}", remedy)]


def _images(place: Path, suffix: str) -> list[Path]:
    images = [*place.glob(f"anat/*_{suffix}.nii.gz"), *place.glob(f"anat/*_{suffix}.nii")]
    return sorted(image for image in images if image.name.startswith("sub-"))


def _is_lesion_mask(path: Path) -> bool:
    name, dot, _ = path.name.partition(".nii")
    suffix = name.rpartition("_")[2]
    return bool(
        dot
        and path.name.endswith((".nii", ".nii.gz"))
        and name.startswith("sub-")
        and suffix not in _NO_MASK_SUFFIX
        and _LESION_WORD.search(name)
    )


def _own_predictions(derivatives: Path) -> set[Path]:
    """Folders under ``derivatives/`` that this package wrote."""
    own = set()
    for file in derivatives.glob("**/dataset_description.json"):
        try:
            makers = json.loads(file.read_text()).get("GeneratedBy", [])
        except (ValueError, OSError, AttributeError):
            continue
        if any(maker.get("Name") == OWN_PREDICTIONS for maker in makers):
            own.add(file.parent)
    return own


def _belongs(name: str, person: str, session: str, only_session: bool) -> bool:
    """Whether a derivative is of this person and session; one session need not be named."""
    if f"sub-{_entity(name, 'sub')}" != person:
        return False
    named = _entity(name, "ses")
    return f"ses-{named}" == session if named else only_session or session == person


def _entity(name: str, key: str) -> str | None:
    """The value of a BIDS entity (``sub``, ``ses``, ``space``) in a file's name."""
    match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", name)
    return match[1] if match else None


def _participants(path: Path) -> dict[str, dict[str, str]]:
    """Rows of ``participants.tsv`` by participant; cells that are not known (n/a) left out."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row.get("participant_id", ""): {
            key: cell for key, cell in row.items() if cell and cell.lower() != "n/a"
        }
        for row in rows
    }


def _scanner_beside(flair: Path | None) -> str:
    """Manufacturer, model and field strength from the JSON file beside an image."""
    sidecar = flair and flair.with_name(flair.name.partition(".nii")[0] + ".json")
    if not sidecar or not sidecar.is_file():
        return UNKNOWN_SCANNER
    try:
        facts = json.loads(sidecar.read_text())
        tesla = f"{round(float(facts['MagneticFieldStrength']), 1):g}t".replace(".", "p")
        return _word(f"{facts['Manufacturer']} {facts['ManufacturersModelName']} {tesla}")
    except (ValueError, KeyError, TypeError):
        return UNKNOWN_SCANNER


def _word(text: str) -> str:
    """A name as one lower-case word: ``"Siemens Prisma 3T"`` becomes ``siemens_prisma_3t``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
