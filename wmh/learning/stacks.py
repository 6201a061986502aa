"""Stacks of slices that stay on disk and are indexed as tensors are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from wmh.learning.cut import window
from wmh.learning.losses import LEFT_OUT

OPEN_AT_ONCE = 4
"""Files kept mapped, so that the images and labels of a batch open each person's file once."""


@dataclass(frozen=True)
class StoredSubject:
    """What is known of a subject's files without reading their slices."""

    paths: tuple[Path, ...]
    stamps: tuple[str, ...]
    edges: tuple[int, int]
    """Of the subject's own window, in pixels."""
    depth_mm: torch.Tensor
    labelled: dict[str, torch.Tensor]
    """How many pixels of each slice hold a structure, (n,) each."""


class Files:
    """The files of some subjects, whose slices are numbered through from the first to the last.

    A file is mapped into memory while slices are read from it, and soon let go again: what the
    process holds does not grow with the cohort.
    """

    def __init__(self, subjects: Sequence[StoredSubject]):
        self.subjects = subjects
        self.ends = torch.tensor([len(s.depth_mm) for s in subjects]).cumsum(0)
        self.size = tuple(max(s.edges[axis] for s in subjects) for axis in (0, 1))
        self.open = lru_cache(OPEN_AT_ONCE)(self._open)

    def _open(self, person: int) -> dict[str, torch.Tensor]:
        return open_slices(*self.subjects[person].paths)

    def find(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whose slices these are, and their numbers within the subject."""
        person = torch.searchsorted(self.ends, numbers, right=True)
        first = torch.cat([torch.zeros_like(self.ends[:1]), self.ends[:-1]])
        return person, numbers - first[person]


class Stored:
    """A stack of slices (N, ..., H, W) in files: what is indexed is read and comes as a tensor.

    Each subject's window is centred in the common one, as it is for stacks in memory.
    """

    device = torch.device("cpu")

    def __init__(self, files: Files, name: str):
        self.files, self.name = files, name
        one = files.open(0)[name]
        self.dtype = one.dtype
        self.shape = torch.Size([int(files.ends[-1]), *one.shape[1:-2], *files.size])
        self.ndim = len(self.shape)
        self.nbytes = self.shape.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: torch.Tensor | slice | tuple) -> torch.Tensor:
        """Slices of these numbers; for a tuple, what it says of them, as pixels of patches."""
        if isinstance(which, tuple):
            numbers, place = which[0].unique(return_inverse=True)
            return self[numbers][(place, *which[1:])]
        if isinstance(which, slice):
            which = torch.arange(*which.indices(len(self)))
        found = torch.empty(len(which), *self.shape[1:], dtype=self.dtype)
        person, numbers = self.files.find(which)
        for one in person.unique().tolist():
            stack = self.files.open(one)[self.name]
            found[person == one] = centred(stack[numbers[person == one]], self.files.size)
        return found

    def labelled(self) -> torch.Tensor:
        """How many pixels of each slice hold the structure (N,)."""
        return torch.cat([subject.labelled[self.name] for subject in self.files.subjects])

    def fingerprint(self) -> bytes:
        """A hash of what the files were made of."""
        stamps = "/".join(stamp for subject in self.files.subjects for stamp in subject.stamps)
        return hashlib.blake2b(stamps.encode(), digest_size=16).digest()


class StoredVoxels:
    """Right, front and number of the slice of every lesion voxel, looked up where it is asked for.

    In the order in which ``nonzero`` would list them, were all labels in memory.
    """

    def __init__(self, lesions: Stored):
        self.lesions = lesions
        self.ends = lesions.labelled().cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, voxels: torch.Tensor) -> torch.Tensor:
        """Those of some numbers, (n, 3)."""
        numbers = torch.searchsorted(self.ends, voxels, right=True)
        found = torch.empty(len(voxels), 3, dtype=torch.long)
        for row, (number, voxel) in enumerate(zip(numbers, voxels, strict=True)):
            in_plane = is_structure("lesions", self.lesions[number[None]][0]).nonzero()
            found[row, :2] = in_plane[voxel - self.ends[number]]  # from the slice's end: negative
            found[row, 2] = number
        return found


def open_slices(*paths: Path) -> dict[str, torch.Tensor]:
    """What a subject's files hold, mapped into memory and read only where it is looked at."""
    content = {}
    for path in paths:
        content |= torch.load(path, mmap=True, weights_only=True)
    return content


def is_structure(structure: str, labels: torch.Tensor) -> torch.Tensor:
    """Where labels say lesion (label 1, not other pathology), or any region."""
    return labels == 1 if structure == "lesions" else (labels > 0) & (labels != LEFT_OUT)


def centred(stack: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut or pad (..., H, W) to ``size`` about its centre."""
    corner = tuple((now - then) // 2 for now, then in zip(stack.shape[-2:], size, strict=True))
    return window(stack, corner, size)
