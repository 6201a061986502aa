"""The slices of some subjects with their labels, in memory or on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from tqdm.auto import tqdm

from wmh.cohorts.cohort import Subject, load_lesions, load_pair
from wmh.images import ImageError, load_labels, same_grid
from wmh.learning.cut import cut, normalise
from wmh.learning.losses import LEFT_OUT, SKELETON
from wmh.learning.memory import fits
from wmh.learning.skeletons import tubed_skeleton, tubed_skeletons_of_slices
from wmh.learning.stacks import Stored, StoredVoxels, centred, is_structure

CPU = torch.device("cpu")

THINNEST = 0.1
"""Share of the subjects with thinner slices than those a network is said to know."""

Stack = torch.Tensor | Stored
"""Slices (N, ..., H, W), in memory or on disk; indexing gives a tensor either way."""


@dataclass
class Slices:
    """All slices of some subjects.

    ``images`` (N, 2, H, W) normalised FLAIR and T1; ``lesions`` (N, H, W) 0, 1, and 2 for what is
    left out; ``regions`` (N, H, W) 0 to 36, 255 where they are not known, or None; ``depth_mm``
    (N,) below the crown; ``subject`` (N,) index into ``ids``; ``windows`` edges of each subject's
    own window, centred in the common one of H x W (all as large as that where none are given);
    ``skeletons`` (N, H, W) of each structure, where the loss needs them; ``device`` where batches
    of them are made, whether or not they lie there.
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
    """Of each subject, whether it is one of the cohort's further people; none where not given."""

    def __post_init__(self) -> None:
        self.windows = self.windows or (tuple(self.images.shape[2:]),) * len(self.ids)

    def __len__(self) -> int:
        return len(self.images)

    def numbers_of(self, person: int) -> torch.Tensor:
        """Numbers of a subject's slices."""
        first, end = self.spans[person].tolist()
        return torch.arange(first, end)

    def holding(self, structure: str, person: int) -> torch.Tensor:
        """Numbers of a subject's slices that hold lesion (label 1), or any region."""
        numbers = self.numbers_of(person)
        return numbers[self.holds[structure][numbers]]

    @cached_property
    def holds(self) -> dict[str, torch.Tensor]:
        """Whether each slice holds a structure (N,)."""

        def of(structure: str, labels: Stack) -> torch.Tensor:
            if isinstance(labels, Stored):
                return labels.labelled() > 0
            return is_structure(structure, labels).flatten(1).any(dim=1).cpu()

        labels = {"lesions": self.lesions, "regions": self.regions}
        return {name: of(name, stack) for name, stack in labels.items() if stack is not None}

    @cached_property
    def lesion_voxels(self) -> torch.Tensor | StoredVoxels:
        """Right, front and number of the slice of every lesion voxel (V, 3)."""
        if isinstance(self.lesions, Stored):
            return StoredVoxels(self.lesions)
        return is_structure("lesions", self.lesions).nonzero()[:, [1, 2, 0]].cpu()

    @cached_property
    def spans(self) -> torch.Tensor:
        """Each subject's first slice and the one past its last, (subjects, 2)."""
        end = torch.bincount(self.subject, minlength=len(self.ids)).cumsum(0)
        return torch.stack([torch.cat([torch.zeros_like(end[:1]), end[:-1]]), end], dim=1)

    @property
    def thickness_mm(self) -> float:
        """Thickness of a slice that few subjects' are below; 0 where none has two slices."""
        first = self.spans[self.spans.diff(dim=1)[:, 0] > 1, 0]
        steps = self.depth_mm[first] - self.depth_mm[first + 1]
        return float(steps.quantile(THINNEST)) if len(steps) else 0.0

    def stacks(self, structures: Iterable[str]) -> dict[str, Stack]:
        """Labels of each structure, and its skeletons where there are any."""
        labels = {structure: getattr(self, structure) for structure in structures}
        skeletons = {s + SKELETON: self.skeletons[s] for s in labels if s in self.skeletons}
        return labels | skeletons

    def labels(
        self, structures: Iterable[str], which: torch.Tensor | slice
    ) -> dict[str, torch.Tensor]:
        """The :meth:`stacks` of labels of some slices."""
        return {name: stack[which] for name, stack in self.stacks(structures).items()}

    def to(self, device: torch.device, storage: str = "auto") -> Slices:
        """The same slices for batches on a device, where they also lie if there is room.

        ``storage`` is the study's setting. Slices on disk, and those a GPU's memory is too small
        for, stay where they are; batches of them are sent as they are drawn.
        """
        stacks = [self.images, self.lesions, self.regions, *self.skeletons.values()]
        stacks = [stack for stack in stacks if stack is not None]
        stay = storage == "host" or any(isinstance(stack, Stored) for stack in stacks)
        needed = sum(stack.nbytes for stack in stacks)
        if stay or (storage == "auto" and not fits(needed, device)):
            return replace(self, device=device)
        regions = None if self.regions is None else self.regions.to(device)
        return replace(
            self,
            images=self.images.to(device),
            lesions=self.lesions.to(device),
            regions=regions,
            skeletons={name: stack.to(device) for name, stack in self.skeletons.items()},
            device=device,
        )

    def fingerprint(self) -> str:
        """A hash of every value, to tell whether an interrupted training saw the same data.

        Of slices on disk, one of the files that they were made of.
        """
        digest = hashlib.blake2b(digest_size=16)
        for stack in (self.images, self.lesions, self.regions):
            if isinstance(stack, Stored):
                digest.update(stack.fingerprint())
            elif stack is not None:
                digest.update(stack.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_slices(
    subjects: Sequence[Subject],
    voxel_size_mm: float | None,
    regions_folder: Path | None = None,
    precision: torch.dtype = torch.float32,
    skeletons: int | None = None,
) -> Slices:
    """Read the subjects' images and labels as slices of one common size.

    With ``regions_folder`` region labels are read from ``ID.nii.gz`` in it; with ``skeletons`` each
    structure has its tubed skeleton, in so many dimensions. Raises :class:`ImageError`, which names
    the file, when labels lie on another grid than their FLAIR.
    """
    parts = [
        subject_slices(subject, voxel_size_mm, regions_folder, precision, skeletons)
        for subject in tqdm(subjects, desc="reading slices", unit="subject")
    ]
    size = tuple(max(part.images.shape[axis] for part in parts) for axis in (2, 3))

    def joined(name: str) -> torch.Tensor:
        return torch.cat([centred(getattr(part, name), size) for part in parts])

    counts = torch.tensor([len(part) for part in parts])
    return Slices(
        images=joined("images"),
        lesions=joined("lesions"),
        regions=joined("regions") if regions_folder else None,
        depth_mm=torch.cat([part.depth_mm for part in parts]),
        subject=torch.repeat_interleave(torch.arange(len(parts)), counts),
        ids=tuple(subject.id for subject in subjects),
        windows=tuple(part.windows[0] for part in parts),
        further=tuple(subject.further for subject in subjects),
        skeletons={
            name: torch.cat([centred(part.skeletons[name], size) for part in parts])
            for name in parts[0].skeletons
        },
    )


def subject_slices(
    subject: Subject,
    voxel_size_mm: float | None,
    regions_folder: Path | None,
    precision: torch.dtype,
    skeletons: int | None,
) -> Slices:
    """One subject's slices with head, in a window of their own size; see :func:`load_slices`."""
    flair, t1 = load_pair(subject)
    lesions = load_lesions(subject)
    plan = cut(flair, voxel_size_mm)
    images = torch.stack([plan.slices(normalise(image)) for image in (flair, t1)], dim=1)
    lesion, other = (plan.slices(lesions.data == label) >= 0.5 for label in (1, 2))
    marked = torch.where(other, 2, lesion.byte())
    regions = torch.zeros_like(marked)
    if regions_folder is not None:
        labels = load_labels(regions_folder / f"{subject.id}.nii.gz", range(37))
        if not same_grid(labels, flair):
            raise ImageError(
                labels.path, f"lies on another grid than {flair.path}", "Run notebook 02 again"
            )
        regions = plan.label_slices(labels.data)
        if not labels.data.any():  # not known of this subject
            regions[:] = LEFT_OUT
    head = slice(*plan.span)  # slices above and below the head are left out
    marked, regions = marked[head], regions[head]
    thin = tubed_skeleton if skeletons == 3 else tubed_skeletons_of_slices
    thinned = {"lesions": marked * (marked == 1)}
    if regions_folder is not None:
        thinned["regions"] = regions * (regions != LEFT_OUT)
    return Slices(
        images=images[head].to(precision),
        lesions=marked,
        regions=regions,
        depth_mm=plan.depth_mm,
        subject=torch.zeros(plan.span[1] - plan.span[0], dtype=torch.long),
        ids=(subject.id,),
        skeletons={
            name: torch.from_numpy(thin(labels.numpy()))
            for name, labels in thinned.items()
            if skeletons
        },
    )
