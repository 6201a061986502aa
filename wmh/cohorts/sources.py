"""Subjects in the three layouts: the challenge's folders, a BIDS folder, a CSV table."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from wmh.cohorts.bids import find_bids
from wmh.cohorts.cohort import (
    NEEDED,
    PATHS,
    SPLITS,
    UNDECIDED,
    CohortError,
    Found,
    Subject,
    draw_people,
)
from wmh.cohorts.scanners import scanner_at
from wmh.cohorts.tables import find_csv
from wmh.study import Study, project_root

Layout = Literal["challenge", "bids", "csv"]


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
        "these, or a CSV file with the columns id, flair and t1 (and lesions, if known)"
    )


def find_subjects(
    path: Path | str, layout: Layout | None = None, needed: Collection[str] = NEEDED
) -> list[Found]:
    """All subjects of a folder or CSV file, in order.

    ``needed`` are the images that every subject must have; if it is empty, a FLAIR or a T1 is
    enough. Raises :class:`CohortError` when there is no subject, or when the layout or table is not
    as expected.
    """
    path = Path(path)
    layout = layout or layout_of(path)
    if layout == "challenge":  # paths are fixed; missing files are found when they are read
        return [Found(subject) for subject in find_challenge(path)]
    found = {"bids": find_bids, "csv": find_csv}[layout](path, needed)
    if not found:
        expected = {
            "bids": "A BIDS folder holds sub-*/anat/; a table is read with source: csv",
            "csv": "A table has one row per subject below the column names",
        }
        raise CohortError(f"{path}: no subjects found. {expected[layout]}")
    return found


def files_read(study: Study) -> list[Path]:
    """The files that a study's cohort is read from, as far as they are there.

    Of a folder these are images, tables and what is written beside images; of a table, itself and
    the images it names. A table that cannot be read stands alone: who reads it says why.
    """
    places = [] if study.cohort.source == "simulated" else [study.cohort_folder]
    if study.cohort.further is not None:
        places.append(project_root() / study.cohort.further)
    files = set()
    for place in places:
        for ending in ("nii", "nii.gz", "tsv", "json"):
            files |= set(place.rglob(f"*.{ending}"))
        if place.is_file():
            files.add(place)
            with suppress(CohortError):
                subjects = [found.subject for found in find_csv(place, needed=())]
                files |= {getattr(one, name) for one in subjects for name in PATHS} - {None}
    return sorted(path for path in files if path.is_file())


def find_challenge(folder: Path | str) -> list[Subject]:
    """Subjects of a folder laid out as the challenge: ``training|test/Site[/Scanner]/ID/``.

    The bias-corrected images in ``pre/`` are used. Simulated subjects also have their true regions,
    ``regions.nii.gz`` beside ``wmh.nii.gz``. Raises :class:`CohortError` when the folder holds no
    subject, or one in a folder of no scanner of the challenge.
    """
    folder = Path(folder)
    subjects = []
    for split in SPLITS:
        for pre in sorted(folder.glob(f"{split}/**/pre")):
            place = pre.parent.parent.relative_to(folder / split).as_posix()
            scanner = scanner_at(place)
            if scanner is None:
                raise CohortError(
                    f"{pre.parent}: {place!r} is not the folder of a scanner of the challenge. "
                    "Use the challenge's folder names, or a CSV file that lists the subjects"
                )
            regions = pre.with_name("regions.nii.gz")
            subjects.append(
                Subject(
                    id=pre.parent.name,
                    split=split,
                    scanner=scanner.name,
                    flair=pre / "FLAIR.nii.gz",
                    t1=pre / "T1.nii.gz",
                    lesions=pre.with_name("wmh.nii.gz"),
                    true_regions=regions if regions.exists() else None,
                )
            )
    if not subjects:
        raise CohortError(
            f"{folder}: no subjects found. Expected training/ and test/ with Site[/Scanner]/ID/pre/"
        )
    return subjects


def decide_splits(subjects: list[Subject], test_share: float, seed: int) -> list[Subject]:
    """Draw a split for every subject if the source gives none; all sessions of a person get one.

    Further people have theirs already. Raises :class:`CohortError` when some of the others have a
    split and others have none.
    """
    own = [s for s in subjects if not s.further]
    open_ones = [s.id for s in own if s.split == UNDECIDED]
    if not open_ones:
        return subjects
    if len(open_ones) < len(own):
        raise CohortError(
            f"{len(open_ones)} of {len(own)} subjects have no split ({open_ones[0]}, ...). "
            "Give training or test for all of them, or for none"
        )
    test = draw_people(own, test_share, seed)
    return [
        s if s.further else replace(s, split="test" if s.person in test else "training")
        for s in subjects
    ]
