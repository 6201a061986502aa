"""A cohort: subjects with their images, as one checked table that every later stage reads.

A subject with problems, such as two T1 images or no FLAIR, is passed on together with them, so that
one report can name all problems.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from wmh.files import write_table
from wmh.images import Image, load_image, load_labels, resample_to
from wmh.study import Study, made, project_root

LESION_LABELS = {0, 1, 2}
"""Background, lesion, other pathology (left out of training and of every measure)."""

PATHS = ("flair", "t1", "lesions", "true_regions")
SPLITS = ("training", "test")
UNDECIDED = ""
"""The split of a subject whose source does not give one."""
UNKNOWN_SCANNER = "unknown"
NEEDED = ("flair", "t1", "lesions")
"""The images that a study needs of each subject. A prediction needs only a FLAIR or a T1."""

ABSENT_REMEDY = (
    "A study needs FLAIR, T1 and a lesion mask of each subject; use wmh predict for a single scan"
)
NO_SCAN_REMEDY = "Give its FLAIR, its T1 or both"


class CohortError(ValueError):
    """A cohort that cannot be used. The message names the folder, table or subject."""


def person_of(identity: str) -> str:
    """Who a subject is: a person may have come for several sessions, named ``sub-1_ses-2``.

    >>> person_of("sub-1_ses-2"), person_of("007")
    ('sub-1', '007')
    """
    return identity.partition("_ses-")[0]


def people_of(subjects: pd.Series) -> pd.Series:
    """Who each of many subjects is; all sessions of a person are one."""
    return subjects.map({name: person_of(str(name)) for name in subjects.unique()})


@dataclass(frozen=True)
class Subject:
    """One person: identity, split, scanner and the files that belong to them."""

    id: str
    split: str
    scanner: str
    flair: Path | None
    t1: Path | None
    lesions: Path | None = None
    true_regions: Path | None = None
    further: bool = False
    """True if the person is in the table ``cohort.further``; they are never validated on."""

    @property
    def person(self) -> str:
        """The id without the session, by :func:`person_of`."""
        return person_of(self.id)


@dataclass(frozen=True)
class Problem:
    """A reason why a subject cannot be used, and its remedy."""

    file: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}. {self.remedy}."


@dataclass(frozen=True)
class Found:
    """A subject as found in its source, with problems and warnings so far.

    After its files were read it also holds which images are there and their geometry (mm, ml).
    """

    subject: Subject
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    voxel_size_mm: tuple[float, ...] | None = None
    orientation: str | None = None
    lesion_ml: float | None = None
    other_pathology_ml: float | None = None
    t1_offset_mm: float | None = None
    fingerprints: dict[str, str] = field(default_factory=dict, repr=False)
    """Hash of the voxels of each image that was read, by its path."""

    @property
    def usable(self) -> bool:
        """True if a study can use the subject."""
        return not self.problems


def split_problems(subject: Subject) -> list[Problem]:
    """The problem of a split that is neither training nor test, if it is one."""
    if subject.split in (*SPLITS, UNDECIDED):
        return []
    return [
        Problem(
            subject.id,
            f"unknown split {subject.split!r}",
            "Write training or test, or remove the column; splits are then drawn at random",
        )
    ]


def as_word(text: str) -> str:
    """A name as one lower-case word: ``"Siemens Prisma 3T"`` becomes ``siemens_prisma_3t``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def write_cohort(rows: Iterable[dict[str, object]], path: Path) -> pd.DataFrame:
    """Write the cohort table and return it.

    Paths below the project's root are stored relative to it, so that results stay valid when the
    checkout moves; all others are absolute. Raises :class:`CohortError` for an id that occurs
    twice, within or across splits.
    """
    table, root = pd.DataFrame(list(rows)), project_root()
    _raise_on_duplicates(table["id"])
    for column in table.columns.intersection(PATHS):
        table[column] = [
            path and (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
            for path in table[column]
        ]
    write_table(table, path)
    return table


def read_cohort(path: Path | str) -> list[Subject]:
    """Read the subjects of a cohort table written by :func:`write_cohort`."""
    made(Path(path), "01_data_preparation")
    table, root = pd.read_csv(path, dtype={"id": str}), project_root()
    _raise_on_duplicates(table["id"])
    subjects = []
    for row in table.to_dict("records"):
        files = {name: root / str(row[name]) if pd.notna(row.get(name)) else None for name in PATHS}
        about = {name: str(row[name]) for name in ("id", "split", "scanner")}
        subjects.append(Subject(**about, **files, further=row.get("further") is True))
    return subjects


def of_split(subjects: Iterable[Subject], split: str) -> list[Subject]:
    """The subjects of one split, in order."""
    return [subject for subject in subjects if subject.split == split]


def scanners_table(cohort: pd.DataFrame) -> pd.DataFrame:
    """Subjects, grid and lesion volume (ml) of each split and scanner of a cohort table."""
    grid = cohort[["nx", "ny", "nz"]].astype(str).agg(" x ".join, axis="columns")
    return (
        cohort.assign(grid=grid)
        .groupby(["split", "scanner"], sort=False)
        .agg(
            subjects=("id", "size"),
            grid=("grid", "first"),
            lesion_ml_median=("lesion_ml", "median"),
            lesion_ml_smallest=("lesion_ml", "min"),
            lesion_ml_largest=("lesion_ml", "max"),
        )
    )


def validation_split(
    subjects: list[Subject], share: float, seed: int
) -> tuple[list[Subject], list[Subject]]:
    """Divide training subjects into those to learn from and those to validate on, by scanner.

    People are drawn by :func:`draw_people`, so that no person is in both parts. Raises
    :class:`CohortError` when a subject is not of the training split, or when a part would be empty.
    """
    strangers = [s.id for s in subjects if s.split != "training"]
    if strangers:
        raise CohortError(f"subjects {', '.join(strangers)} are not in the training split")
    held_out = draw_people([s for s in subjects if not s.further], share, seed)
    learn = [s for s in subjects if s.person not in held_out]
    validate = [s for s in subjects if s.person in held_out]
    if not validate:
        raise CohortError(
            f"{len({s.person for s in subjects})} people in the training split: at least two are "
            "needed, one to learn from and one to validate on. Add people to the training split"
        )
    return learn, validate


def draw_people(subjects: Iterable[Subject], share: float, seed: int) -> set[str]:
    """Draw people, by scanner, with all their sessions.

    Each scanner with at least two people gives ``share`` of them, at least one and never all. If no
    scanner has two people, all are drawn from as if they had one scanner.
    """
    subjects, generator = list(subjects), np.random.default_rng(seed)
    drawn: set[str] = set()
    for scanner in sorted({s.scanner for s in subjects}):
        people = {s.person for s in subjects if s.scanner == scanner} - drawn
        drawn |= _draw_share(people, share, generator)
    return drawn or _draw_share({s.person for s in subjects}, share, generator)


def _draw_share(people: set[str], share: float, generator: np.random.Generator) -> set[str]:
    """Draw a share of people, at least one and never all; none if there is only one person."""
    if len(people) < 2:
        return set()
    count = min(max(1, round(share * len(people))), len(people) - 1)
    return set(generator.permutation(sorted(people))[:count].tolist())


def load_pair(subject: Subject) -> tuple[Image, Image]:
    """FLAIR and T1 of a subject, T1 brought to the FLAIR's grid through the headers."""
    flair = load_image(_required(subject, "flair"))
    return flair, resample_to(load_image(_required(subject, "t1")), flair)


def load_lesions(subject: Subject) -> Image:
    """The lesion labels of a subject: 0 background, 1 lesion, 2 other pathology."""
    return load_labels(_required(subject, "lesions"), LESION_LABELS)


def _required(subject: Subject, name: str) -> Path:
    path = getattr(subject, name)
    if path is None:
        raise CohortError(f"subject {subject.id}: the image {name} is missing, but needed here")
    return path


def _raise_on_duplicates(ids: Iterable[str]) -> None:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise CohortError(
            f"subjects {', '.join(twice)} occur twice; each id may occur once, in one split"
        )


def read_left_out(results: Path) -> pd.DataFrame:
    """The subjects left out of a study, and why, from its results folder: one row per subject."""
    table = made(results / "left_out.csv", "01_data_preparation")
    return pd.read_csv(table, dtype=str, keep_default_na=False)


def cohort_note(study: Study) -> str:
    """A note for a study's numbers: whether its people are simulated, and who was left out.

    >>> cohort_note(study)  # doctest: +SKIP
    'These subjects are **simulated**: ... No subject was left out.'
    """
    simulated = (
        "These subjects are **simulated**: the results describe the simulation, not patients. "
    )
    return simulated * (study.cohort.source == "simulated") + left_out_note(study.results)


def left_out_note(results: Path) -> str:
    """A sentence for a study's numbers: who was left out.

    >>> left_out_note(study.results)  # doctest: +SKIP
    'No subject was left out.'
    """
    table = read_left_out(results)
    if table.empty:
        return "No subject was left out."
    names, count = ", ".join(table["id"]), len(table)
    subjects = "subject was" if count == 1 else "subjects were"
    return f"{count} {subjects} left out as unusable ({names}); left_out.csv says why."
