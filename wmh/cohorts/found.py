"""A subject of a cohort: its files as its source names them, and what is wrong with them.

A subject that cannot be told from its file names alone (two T1 images, no FLAIR) is passed on with
its problems, so that one report can name them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from wmh.cohorts.cohort import Subject

SPLITS = ("training", "test")
UNDECIDED = ""
"""The split of a subject whose source does not say it."""
UNKNOWN_SCANNER = "unknown"
NEEDED = ("flair", "t1", "lesions")
"""The images a study needs of each subject. Prediction needs none by name: either scan will do."""

ABSENT_REMEDY = "A study needs FLAIR, T1 and a lesion mask; a single scan goes to wmh predict"
NO_SCAN_REMEDY = "Give its FLAIR, its T1 or both"


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
    """A subject as its source names it, with what is wrong already, and what was taken for what.

    Once its files were read, also the images that are there and their geometry (mm, ml).
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
        """True where a study can use the subject."""
        return not self.problems


def split_problems(subject: Subject) -> list[Problem]:
    """A split that is neither training nor test."""
    if subject.split in (*SPLITS, UNDECIDED):
        return []
    return [
        Problem(
            subject.id,
            f"its split {subject.split!r} is not known",
            "Write training or test, or leave the column out to have it drawn",
        )
    ]


def as_word(text: str) -> str:
    """A name as one lower-case word: ``"Siemens Prisma 3T"`` becomes ``siemens_prisma_3t``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
