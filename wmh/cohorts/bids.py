"""Subjects of a BIDS folder: scans under ``anat/``, lesion masks under ``derivatives/``."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from wmh.cohorts.cohort import Subject
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

OWN_PREDICTIONS = "wmh"
"""Name in ``GeneratedBy`` of the derivatives that this package writes: no truth lies there."""

_LESION_WORD = re.compile(r"lesion|wmh|wml|hyperintens", re.IGNORECASE)
_NO_MASK_SUFFIX = {"FLAIR", "T1w", "T2w", "probseg"}
_NATIVE_SPACES = {None, "FLAIR", "orig", "individual"}


def find_bids(folder: Path, needed: Collection[str] = NEEDED) -> list[Found]:
    """Subjects of a BIDS folder, one for each session that has a FLAIR or a T1w image.

    Lesion masks are looked for under ``derivatives/``: files named after the subject (and session)
    whose name speaks of lesions, WMH or WML, but not in what ``wmh predict`` wrote.
    ``participants.tsv`` may say ``split`` and ``scanner``; without it, the scanner is read from the
    FLAIR's JSON sidecar.
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
        scanner=as_word(row.get("scanner", "")) or _scanner_beside(flair),
        flair=flair,
        t1=t1,
        lesions=lesions,
    )
    problems = (*flair_problems, *t1_problems, *lesion_problems, *split_problems(subject))
    if not needed and not any(scans):
        problems += (Problem(str(place), "no FLAIR and no T1w", NO_SCAN_REMEDY),)
    return Found(subject, problems)


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
        return as_word(f"{facts['Manufacturer']} {facts['ManufacturersModelName']} {tesla}")
    except (ValueError, KeyError, TypeError):
        return UNKNOWN_SCANNER
