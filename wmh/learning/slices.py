"""The slices of some subjects with their labels, in memory or in files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch

from wmh.learning.cut import centred
from wmh.learning.devices import fits
from wmh.learning.losses import LEFT_OUT, SKELETON

CPU = torch.device("cpu")

THINNEST = 0.1
"""A network's slice thickness is this quantile of its training subjects' thicknesses."""

OPEN_AT_ONCE = 4
"""Number of files that stay open, so that a batch opens each person's file only once."""


@dataclass
class Slices:
    """All slices of some subjects.

    ``images`` (N, 2, H, W): normalised FLAIR and T1. ``lesions`` (N, H, W): 0, 1, and 2 for pixels
    that are left out. ``regions`` (N, H, W): 0 to 36, 255 where unknown; or None. ``depth_mm``
    (N,): depth below the crown of the head. ``subject`` (N,): index into ``ids``. ``windows``: size
    of each subject's own window, centred in the common window of H x W (by default that size).
    ``skeletons`` (N, H, W) of each structure, if the loss needs them. ``device``: where batches are
    made; the slices themselves may lie elsewhere.
    """

    images: Stack
    lesions: Stack
    regions: Stack | None
    depth_mm: torch.Tensor
    subject: torch.Tensor
    ids: tuple[str, ...]
    windows: tuple[tuple[int, int], ...] = ()
    skeletons: dict[str, Stack] = field(default_factory=dict)
    device: torch.device = CPU
    further: tuple[bool, ...] = ()
    """For each subject, whether it is one of ``cohort.further``; empty if there are none."""

    def __post_init__(self) -> None:
        self.windows = self.windows or (tuple(self.images.shape[2:]),) * len(self.ids)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def labelled(self) -> dict[str, torch.Tensor]:
        """Number of pixels of each structure in each slice (N,), by structure."""

        def of(structure: str, labels: Stack) -> torch.Tensor:
            if isinstance(labels, Stored):
                return labels.labelled()
            return is_structure(structure, labels).flatten(1).sum(dim=1).cpu()

        labels = {"lesions": self.lesions, "regions": self.regions}
        return {name: of(name, stack) for name, stack in labels.items() if stack is not None}

    @cached_property
    def holds(self) -> dict[str, torch.Tensor]:
        """Whether each slice holds lesion (label 1), or any region: (N,) by structure."""
        return {name: pixels > 0 for name, pixels in self.labelled.items()}

    @cached_property
    def lesion_voxels(self) -> torch.Tensor | StoredVoxels:
        """Row (right), column (front) and slice number of every lesion voxel (V, 3)."""
        if isinstance(self.lesions, Stored):
            return StoredVoxels(self.lesions)
        return is_structure("lesions", self.lesions).nonzero()[:, [1, 2, 0]].cpu()

    @cached_property
    def spans(self) -> torch.Tensor:
        """Each subject's first slice, and the one after its last: (subjects, 2)."""
        end = torch.bincount(self.subject, minlength=len(self.ids)).cumsum(0)
        return torch.stack([torch.cat([torch.zeros_like(end[:1]), end[:-1]]), end], dim=1)

    @property
    def thickness_mm(self) -> float:
        """The 10 % quantile of the subjects' slice thickness; 0 if no subject has two slices."""
        first = self.spans[self.spans.diff(dim=1)[:, 0] > 1, 0]
        steps = self.depth_mm[first] - self.depth_mm[first + 1]
        return float(steps.quantile(THINNEST)) if len(steps) else 0.0

    def stacks(self, structures: Iterable[str]) -> dict[str, Stack]:
        """Labels of each structure, and its skeletons if there are any."""
        labels = {structure: getattr(self, structure) for structure in structures}
        skeletons = {s + SKELETON: self.skeletons[s] for s in labels if s in self.skeletons}
        return labels | skeletons

    def labels(
        self, structures: Iterable[str], which: torch.Tensor | slice
    ) -> dict[str, torch.Tensor]:
        """The :meth:`stacks` of labels of some slices."""
        return {name: stack[which] for name, stack in self.stacks(structures).items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all stacks, wherever they lie."""
        stacks = (self.images, self.lesions, self.regions, *self.skeletons.values())
        return sum(stack.nbytes for stack in stacks if stack is not None)

    def in_memory(self) -> Slices:
        """The same slices, read into memory."""
        return self._each(lambda stack: stack[:])

    def to(self, device: torch.device, storage: str = "auto") -> Slices:
        """The same slices for batches on a device; they move there if there is enough memory.

        ``storage`` is the study's setting. Slices in files, and slices that do not fit into a GPU's
        memory, stay where they are, and each batch is sent to the device.
        """
        stay = storage == "host" or isinstance(self.images, Stored)
        there = not stay and (storage == "device" or fits(self.nbytes, device))
        moved = self._each(lambda stack: stack.to(device)) if there else self
        return replace(moved, device=device)

    def _each(self, change: Callable[[Stack], torch.Tensor]) -> Slices:
        """The same slices with every stack changed."""
        return replace(
            self,
            images=change(self.images),
            lesions=change(self.lesions),
            regions=None if self.regions is None else change(self.regions),
            skeletons={name: change(stack) for name, stack in self.skeletons.items()},
        )

    def fingerprint(self) -> str:
        """A hash of all values, which shows whether an interrupted training saw the same data.

        For slices in files it is a hash of the images, settings and code they were made from.
        """
        digest = hashlib.blake2b(digest_size=16)
        for stack in (self.images, self.lesions, self.regions):
            if isinstance(stack, Stored):
                digest.update(stack.fingerprint())
            elif stack is not None:
                digest.update(stack.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class StoredSubject:
    """Facts about a subject's files, so that their slices need not be read for them."""

    paths: tuple[Path, ...]
    made_of: tuple[str, ...]
    """Hashes of the images, settings and code of each file."""
    edges: tuple[int, int]
    """Size of the subject's own window in pixels."""
    depth_mm: torch.Tensor
    labelled: dict[str, torch.Tensor]
    """Number of pixels of each structure in each slice, (n,)."""


class Files:
    """The files of some subjects, whose slices are numbered consecutively over all subjects.

    A file is mapped into memory while slices are read from it, and closed soon after, so that the
    memory of the process does not grow with the cohort.
    """

    def __init__(self, subjects: Sequence[StoredSubject]):
        self.subjects = subjects
        self.ends = torch.tensor([len(s.depth_mm) for s in subjects]).cumsum(0)
        self.size = tuple(max(s.edges[axis] for s in subjects) for axis in (0, 1))
        self.open = lru_cache(OPEN_AT_ONCE)(lambda person: open_slices(*subjects[person].paths))


class Stored:
    """A stack of slices (N, ..., H, W) in files; indexing reads slices and returns a tensor.

    Each subject's window is centred in the common one, as in stacks in memory.
    """

    device = torch.device("cpu")

    def __init__(self, files: Files, name: str):
        self.files, self.name = files, name
        one = files.open(0)[name]
        self.dtype = one.dtype
        self.shape = torch.Size([int(files.ends[-1]), *one.shape[1:-2], *files.size])
        self.nbytes = self.shape.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: torch.Tensor | slice) -> torch.Tensor:
        """The slices with these numbers."""
        if isinstance(which, slice):
            which = torch.arange(*which.indices(len(self)))
        found = torch.empty(len(which), *self.shape[1:], dtype=self.dtype)
        person = torch.searchsorted(self.files.ends, which, right=True)
        for one in person.unique().tolist():
            stack, mine = self.files.open(one)[self.name], person == one
            from_end = which[mine] - self.files.ends[one]  # negative
            found[mine] = centred(stack[from_end], self.files.size)
        return found

    def labelled(self) -> torch.Tensor:
        """Number of pixels of the structure in each slice (N,)."""
        return torch.cat([subject.labelled[self.name] for subject in self.files.subjects])

    def fingerprint(self) -> bytes:
        """A hash of the images, settings and code that the files were made from."""
        made_of = "/".join(name for subject in self.files.subjects for name in subject.made_of)
        return hashlib.blake2b(made_of.encode(), digest_size=16).digest()


class StoredVoxels:
    """Row, column and slice number of every lesion voxel, read from files only when indexed.

    The order is that of ``nonzero`` on labels in memory.
    """

    def __init__(self, lesions: Stored):
        self.lesions = lesions
        self.ends = lesions.labelled().cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, voxels: torch.Tensor) -> torch.Tensor:
        """The voxels with these numbers, (n, 3)."""
        numbers = torch.searchsorted(self.ends, voxels, right=True)
        found = torch.empty(len(voxels), 3, dtype=torch.long)
        for row, (number, voxel) in enumerate(zip(numbers, voxels, strict=True)):
            in_plane = is_structure("lesions", self.lesions[number[None]][0]).nonzero()
            found[row, :2] = in_plane[voxel - self.ends[number]]  # from the slice's end: negative
            found[row, 2] = number
        return found


def open_slices(*paths: Path) -> dict[str, torch.Tensor]:
    """Open a subject's files, mapped into memory and read only where they are used."""
    content = {}
    for path in paths:
        content |= torch.load(path, mmap=True, weights_only=True)
    return content


Stack = torch.Tensor | Stored
"""Slices (N, ..., H, W), in memory or on disk; indexing gives a tensor in both cases."""


def is_structure(structure: str, labels: torch.Tensor) -> torch.Tensor:
    """True where the label is lesion (1, not other pathology), or any region."""
    return labels == 1 if structure == "lesions" else (labels > 0) & (labels != LEFT_OUT)
