"""Subjects of a BIDS folder: scans under ``anat/``, lesion masks under ``derivatives/``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from wmh.cohorts.cohort import (
    ABSENT_REMEDY,
    NEEDED,
    NO_SCAN_REMEDY,
    UNDECIDED,
    UNKNOWN_SCANNER,
    CohortError,
    Found,
    Problem,
    Subject,
    as_word,
    split_problems,
)
from wmh.cohorts.tables import read_table

OWN_PREDICTIONS = "wmh"
"""Name in ``GeneratedBy`` of derivatives that this package wrote; they hold no true lesions."""

_LIKE = {
    "FLAIR": re.compile(r"(^|_)[^_]*flair$|_acq-[^_]*flair[^_]*_(.*_)?T2w?$", re.IGNORECASE),
    "T1w": re.compile(r"(^|_)(T1w?|[^_]*mprage)$", re.IGNORECASE),
}
"""Endings of file names that mean the same as BIDS's ``_FLAIR`` and ``_T1w``."""
_LESION_WORD = re.compile(r"lesion|wmh|wml|hyperintens|desc-manual[^_]*_mask", re.IGNORECASE)
_SCAN = re.compile(r"(^|_)([^_-]*flair|t[12]w?|pd|swi|probseg|probability)$", re.IGNORECASE)
_NATIVE_SPACES = {None, "FLAIR", "orig", "individual"}


def find_bids(folder: Path, needed: Collection[str] = NEEDED) -> list[Found]:
    """Subjects of a BIDS folder, one for each session that has a FLAIR or a T1w image.

    Names that only resemble BIDS (``_T2FLAIR``) are used where a session has no other image. A
    session without a T1w takes one from the person's ``anat/`` above the sessions or from another
    session, if there is only one. Both are reported in the subject's warnings, and so is every
    FLAIR or T1w that is not used.

    Lesion masks are files under ``derivatives/`` that are named after the subject (and session) and
    whose name contains lesion, WMH or WML; files that ``wmh predict`` wrote are ignored.
    ``participants.tsv`` may give ``split`` and ``scanner``; otherwise the scanner is read from the
    FLAIR's JSON sidecar. If ``needed`` is empty, as in prediction, masks and ``participants.tsv``
    are not read.
    """
    participants = _participants(folder / "participants.tsv") if needed else {}
    own = own_predictions(folder / "derivatives")
    masks = [
        p
        for p in sorted(folder.glob("derivatives/**/*") if "lesions" in needed else ())
        if p.name.startswith("sub-") and is_lesion_mask(p.name) and own.isdisjoint(p.parents)
    ]
    found = []
    for person in sorted(p for p in folder.glob("sub-*") if p.is_dir()):
        row = participants.get(person.name.removeprefix("sub-"))
        subjects = _bids_person(person, masks, row or {}, needed)
        if participants and row is None:
            notice = f"{folder / 'participants.tsv'}: has no row for {person.name}"
            subjects[0] = replace(subjects[0], warnings=(*subjects[0].warnings, notice))
        found += subjects
    return found


def _bids_person(
    person: Path, masks: Iterable[Path], row: dict[str, str], needed: Collection[str]
) -> list[Found]:
    """All sessions of a person; an ``anat/`` above the session folders counts as a session."""
    places = [*(s for s in sorted(person.glob("ses-*")) if (s / "anat").is_dir()), person]
    scans = {place: {kind: _images(place, kind) for kind in ("FLAIR", "T1w")} for place in places}
    lent: dict[Path, Path] = {}
    for place in places:
        elsewhere = scans[person]["T1w"] or [t for p in places for t in scans[p]["T1w"]]
        if scans[place]["FLAIR"] and not scans[place]["T1w"] and len(elsewhere) == 1:
            lent[place] = elsewhere[0]
    pictured = [
        place
        for place, images in scans.items()
        if images["FLAIR"] or not set(images["T1w"]) <= set(lent.values())
    ] or places[:1]
    if len(pictured) > 1 and not scans[person]["FLAIR"]:
        pictured = [place for place in pictured if place != person]
    found = []
    for place in pictured:
        images = scans[place] | ({"T1w": [lent[place]]} if place in lent else {})
        found.append(_bids_subject(person, place, images, masks, row, len(pictured) == 1, needed))
    used = {image for one in found for image in (one.subject.flair, one.subject.t1)}
    files = sorted(path for path in person.rglob("*.nii*") if path.is_file())
    left = [path for path in files if (_is(path, "FLAIR") or _is(path, "T1w")) and path not in used]
    if left:
        unused = ", ".join(str(path.relative_to(person)) for path in left)
        notice = f"{person}: these images are not used: {unused}"
        found[0] = replace(found[0], warnings=(*found[0].warnings, notice))
    return found


def _bids_subject(
    person: Path,
    place: Path,
    scans: dict[str, list[Path]],
    masks: Iterable[Path],
    row: dict[str, str],
    only_session: bool,
    needed: Collection[str],
) -> Found:
    identity = person.name if place == person else f"{person.name}_{place.name}"
    own = [m for m in masks if _belongs(m.name, person.name, place.name, only_session)]
    candidates = {
        "flair": ("FLAIR", scans["FLAIR"]),
        "t1": ("T1w", scans["T1w"]),
        "lesions": ("lesion mask", [m for m in own if is_in_native_space(m.name)] or own),
    }
    images, problems = {}, []
    for name, (kind, found) in candidates.items():
        images[name], wrong = _the_one(place, kind, found, name in needed)
        problems += wrong
    subject = Subject(
        id=identity,
        split=row.get("split", UNDECIDED),
        scanner=as_word(row.get("scanner", "")) or _scanner_beside(images["flair"]),
        **images,
    )
    problems += split_problems(subject)
    if not needed and not any(scans.values()):
        problems.append(Problem(str(place), "no FLAIR and no T1w", NO_SCAN_REMEDY))
    notices = tuple(
        f"{identity}: {image} is used as its {kind}"
        for kind, image in (("FLAIR", subject.flair), ("T1w", subject.t1))
        if image and (image.parent.parent != place or not _is_bids(image, kind))
    )
    return Found(subject, tuple(problems), notices)


def _the_one(
    place: Path, kind: str, images: list[Path], needed: bool
) -> tuple[Path | None, list[Problem]]:
    """The only image of a kind; None and a problem if there are several, or a needed one lacks."""
    if len(images) == 1:
        return images[0], []
    if not images:
        return None, [Problem(str(place), f"no {kind}", ABSENT_REMEDY)] * needed
    names = ", ".join(image.name for image in images)
    remedy = "Keep one of them, or list the subjects and their images in a CSV file"
    return None, [Problem(str(place), f"{len(images)} images could be its {kind}: {names}", remedy)]


def _images(place: Path, kind: str) -> list[Path]:
    """The images of a kind, ``FLAIR`` or ``T1w``.

    Images whose names only resemble BIDS count only if there are no others.
    """
    images = sorted(path for path in place.glob("anat/*.nii*") if _is(path, kind))
    return [image for image in images if _is_bids(image, kind)] or images


def _is(path: Path, kind: str) -> bool:
    """True if a NIfTI file's name says FLAIR, or T1w, in any spelling."""
    stem = path.name.partition(".nii")[0]
    return path.name.endswith((".nii", ".nii.gz")) and bool(_LIKE[kind].search(stem))


def _is_bids(path: Path, kind: str) -> bool:
    return path.name.startswith("sub-") and path.name.partition(".nii")[0].endswith(f"_{kind}")


def is_lesion_mask(name: str) -> bool:
    """True if a file's name contains lesion, WMH, WML or a manual mask, and is not a scan's."""
    nifti = name.endswith((".nii", ".nii.gz"))
    return nifti and not is_scan(name) and bool(_LESION_WORD.search(name))


def is_scan(name: str) -> bool:
    """True if a file's name says that it holds intensities or probabilities."""
    return bool(_SCAN.search(name.partition(".nii")[0]))


def is_in_native_space(name: str) -> bool:
    """True unless a file's name says that it has another grid than its subject's own FLAIR."""
    return _entity(name, "space") in _NATIVE_SPACES


def bids_name(identity: str) -> str:
    """A subject's id as BIDS allows it: ``sub-1``, or ``sub-1_ses-a`` with a session.

    >>> bids_name("p_01.b"), bids_name("sub-1_ses-a")
    ('sub-p01b', 'sub-1_ses-a')
    """
    person, _, session = identity.removeprefix("sub-").partition("_ses-")
    label, session = (re.sub(r"[^A-Za-z0-9]", "", part) for part in (person, session))
    return f"sub-{label}_ses-{session}" if session else f"sub-{label}"


def own_predictions(derivatives: Path) -> set[Path]:
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
    """True if a derivative is of this person and session; an only session need not be named."""
    if f"sub-{_entity(name, 'sub')}" != person:
        return False
    named = _entity(name, "ses")
    return f"ses-{named}" == session if named else only_session or session == person


def _entity(name: str, key: str) -> str | None:
    """The value of a BIDS entity (``sub``, ``ses``, ``space``) in a file's name."""
    match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", name)
    return match[1] if match else None


def _participants(path: Path) -> dict[str, dict[str, str]]:
    """Split and scanner from ``participants.tsv``, by participant without ``sub-``.

    Raises :class:`CohortError` for a row with too many cells, and for rows that contradict each
    other.
    """
    if not path.is_file():
        return {}
    found: dict[str, dict[str, str]] = {}
    table = read_table(path, lower_case=True).reindex(
        columns=["participant_id", "split", "scanner"]
    )
    for line, row in table.iterrows():
        facts = row.dropna().to_dict()
        name = facts.pop("participant_id", "").removeprefix("sub-")
        if found.setdefault(name, facts) != facts:
            raise CohortError(
                f"{path}, line {line}: contradicts another row about {name}. Keep one of them"
            )
    return found if any(found.values()) else {}


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
