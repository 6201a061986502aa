"""Axial slices as tensors: how volumes are cut for a network, and how its answer is put back.

Images stay in native space. Array axes are turned to the closest right-anterior-superior order,
slices may be resampled in plane to the study's voxel size, and intensities are divided by their
median inside the head. No subject is resampled through plane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch.nn import functional
from tqdm.auto import tqdm

from wmh.cohorts.cohort import Subject, load_lesions, load_pair
from wmh.images import Image, ImageError, from_ras, load_labels, same_grid, to_ras
from wmh.learning.losses import SKELETON
from wmh.learning.skeletons import tubed_skeleton, tubed_skeletons_of_slices

MULTIPLE = 32
"""Slice edges are multiples of this, so that five halvings in an encoder come out even."""

MARGIN = 2
"""Pixels kept free around the head in every slice."""

COARSE_MM = 2.5
"""Voxel size at which the head is found."""

SKIN_MM = 10.0
"""Intensities are normalised by what lies deeper in the head than this: little scalp or skull."""

BRIGHTEST = 4.0
"""Normalised intensities are cut off here: four times the tissue median."""


@dataclass(frozen=True)
class Cut:
    """How a volume was cut into slices, so that predictions can be put back on its grid."""

    like: Image
    native: tuple[int, int]
    resampled: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]
    span: tuple[int, int]
    """First slice with head, and the first one past it."""
    thickness_mm: float

    @property
    def depth_mm(self) -> torch.Tensor:
        """How far below the crown of the head each slice of the span lies, in mm."""
        first, end = self.span
        return torch.arange(end - first - 1, -1, -1) * self.thickness_mm

    def slices(self, volume: np.ndarray) -> torch.Tensor:
        """Cut a volume on the grid of ``like`` into slices (Z, H, W), float32."""
        turned = to_ras(Image(volume, self.like.affine)).data
        stack = torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1), dtype=np.float32))
        if self.resampled != self.native:
            stack = functional.interpolate(
                stack[:, None], self.resampled, mode="bilinear", antialias=True
            )[:, 0]
        return _window(stack, self.corner, self.size)

    def volume(self, stack: torch.Tensor) -> np.ndarray:
        """Put slices (Z, H, W) back: an array on the grid of ``like``, zero outside the window."""
        back = (-self.corner[0], -self.corner[1])
        stack = _window(stack.float(), back, self.resampled)
        if self.resampled != self.native:
            stack = functional.interpolate(stack[:, None], self.native, mode="bilinear")[:, 0]
        return from_ras(stack.numpy().transpose(1, 2, 0), self.like)

    def label_slices(self, labels: np.ndarray) -> torch.Tensor:
        """Cut a volume of labels: each pixel (Z, H, W) takes the nearest voxel's label."""
        turned = to_ras(Image(labels, self.like.affine)).data
        stack = torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))
        stack = _nearest(stack, self.resampled)
        return _window(stack, self.corner, self.size)

    def labels(self, stack: torch.Tensor) -> np.ndarray:
        """Put label slices (Z, H, W) back: a uint8 array on the grid of ``like``."""
        back = (-self.corner[0], -self.corner[1])
        stack = _nearest(_window(stack.byte(), back, self.resampled), self.native)
        return from_ras(stack.numpy().transpose(1, 2, 0), self.like)


@dataclass
class Slices:
    """All slices of some subjects, in memory.

    ``images`` (N, 2, H, W) normalised FLAIR and T1; ``lesions`` (N, H, W) 0, 1, and 2 for what is
    left out; ``regions`` (N, H, W) 0 to 36, or None; ``depth_mm`` (N,) below the crown; ``subject``
    (N,) index into ``ids``; ``skeletons`` (N, H, W) of each structure, where the loss needs them.
    """

    images: torch.Tensor
    lesions: torch.Tensor
    regions: torch.Tensor | None
    depth_mm: torch.Tensor
    subject: torch.Tensor
    ids: tuple[str, ...]
    skeletons: dict[str, torch.Tensor] = field(default_factory=dict)

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
        masks = {"lesions": self.lesions == 1}
        if self.regions is not None:
            masks["regions"] = self.regions > 0
        return {name: mask.flatten(1).any(dim=1).cpu() for name, mask in masks.items()}

    @cached_property
    def lesion_voxels(self) -> torch.Tensor:
        """Right, front and number of the slice of every lesion voxel (V, 3)."""
        return (self.lesions == 1).nonzero()[:, [1, 2, 0]].cpu()

    @cached_property
    def spans(self) -> torch.Tensor:
        """Each subject's first slice and the one past its last, (subjects, 2)."""
        end = torch.bincount(self.subject.cpu(), minlength=len(self.ids)).cumsum(0)
        return torch.stack([torch.cat([torch.zeros_like(end[:1]), end[:-1]]), end], dim=1)

    def labels(
        self, structures: Iterable[str], which: torch.Tensor | slice
    ) -> dict[str, torch.Tensor]:
        """Labels of some slices for each structure, and its skeletons where there are any."""
        labels = {structure: getattr(self, structure)[which] for structure in structures}
        skeletons = {s + SKELETON: self.skeletons[s][which] for s in labels if s in self.skeletons}
        return labels | skeletons

    def to(self, device: torch.device) -> Slices:
        """The same slices on a device."""
        regions = None if self.regions is None else self.regions.to(device)
        return replace(
            self,
            images=self.images.to(device),
            lesions=self.lesions.to(device),
            regions=regions,
            depth_mm=self.depth_mm.to(device),
            skeletons={name: stack.to(device) for name, stack in self.skeletons.items()},
        )

    def fingerprint(self) -> str:
        """A hash of every value, to tell whether an interrupted training saw the same data."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.images, self.lesions, self.regions):
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
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
        _subject_slices(subject, voxel_size_mm, regions_folder, skeletons)
        for subject in tqdm(subjects, desc="reading slices", unit="subject")
    ]
    size = tuple(max(part.images.shape[axis] for part in parts) for axis in (2, 3))

    def joined(name: str) -> torch.Tensor:
        return torch.cat([_centred(getattr(part, name), size) for part in parts])

    counts = torch.tensor([len(part) for part in parts])
    return Slices(
        images=joined("images").to(precision),
        lesions=joined("lesions"),
        regions=joined("regions") if regions_folder else None,
        depth_mm=torch.cat([part.depth_mm for part in parts]),
        subject=torch.repeat_interleave(torch.arange(len(parts)), counts),
        ids=tuple(subject.id for subject in subjects),
        skeletons={
            name: torch.cat([_centred(part.skeletons[name], size) for part in parts])
            for name in parts[0].skeletons
        },
    )


def cut(image: Image, voxel_size_mm: float | None) -> Cut:
    """Plan how to cut an image: its head in plane, resampled, edges multiples of 32.

    Raises :class:`ImageError` when no head can be told from the background.
    """
    turned = to_ras(image)
    head = find_head(turned)
    native = turned.data.shape[:2]
    target = turned.voxel_size[:2] if voxel_size_mm is None else (voxel_size_mm, voxel_size_mm)
    zoom = turned.voxel_size[:2] / target
    resampled = tuple(max(1, round(n * z)) for n, z in zip(native, zoom, strict=True))
    corner, size = [], []
    for axis in (0, 1):
        inside = np.flatnonzero(head.mask.any(axis=tuple({0, 1, 2} - {axis}))) * head.stride[axis]
        low, high = (inside[[0, -1]] + (0, head.stride[axis])) * resampled[axis] / native[axis]
        edge = _round_up(high - low + 2 * MARGIN)
        corner.append(round((low + high - edge) / 2))
        size.append(edge)
    shown = np.flatnonzero(head.mask.any(axis=(0, 1))) * head.stride[2]
    return Cut(
        like=image,
        native=native,
        resampled=resampled,
        corner=tuple(corner),
        size=tuple(size),
        span=(int(shown[0]), min(int(shown[-1]) + head.stride[2], turned.data.shape[2])),
        thickness_mm=float(turned.voxel_size[2]),
    )


@dataclass(frozen=True)
class Head:
    """A coarse mask of the head: every ``stride``-th voxel of the image along each axis."""

    mask: np.ndarray
    stride: tuple[int, int, int]


def find_head(image: Image) -> Head:
    """Find the head: the largest piece brighter than the background, on a grid of about 2.5 mm.

    Raises :class:`ImageError` when there is none.
    """
    stride = tuple(int(max(1, step)) for step in COARSE_MM // image.voxel_size)
    data = image.data[tuple(slice(None, None, step) for step in stride)]
    ceiling = np.percentile(data[data > data.min()], 99)
    clipped = np.minimum(data, ceiling)
    bright = clipped > 0.5 * threshold_otsu(clipped)
    pieces, count = ndimage.label(ndimage.binary_opening(bright))
    if not count:
        raise ImageError(image.path, "no head found in it", "Look at the image; it may be empty")
    return Head(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1, stride)


def normalise(image: Image) -> np.ndarray:
    """Intensities divided by their median deep inside the head: tissue near 1, background near 0.

    Only what lies at least ``SKIN_MM`` inside the head sets the scale, so that a stripped brain and
    a whole head come out alike.
    """
    head = find_head(image)
    filled = ndimage.binary_fill_holes(np.pad(head.mask, 1))
    depth = ndimage.distance_transform_edt(filled, sampling=image.voxel_size * head.stride)
    data = image.data[tuple(slice(None, None, step) for step in head.stride)]
    deep = depth[1:-1, 1:-1, 1:-1] > SKIN_MM
    median = np.median(data[deep] if deep.any() else data[head.mask])
    return np.clip(image.data / median, 0, BRIGHTEST).astype(np.float32)


def _subject_slices(
    subject: Subject,
    voxel_size_mm: float | None,
    regions_folder: Path | None,
    skeletons: int | None,
) -> Slices:
    """One subject's slices with head, in a window of their own size."""
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
    head = slice(*plan.span)  # slices above and below the head are left out
    marked, regions = marked[head], regions[head]
    thin = tubed_skeleton if skeletons == 3 else tubed_skeletons_of_slices
    thinned = {"lesions": marked * (marked == 1)}
    if regions_folder is not None:
        thinned["regions"] = regions
    return Slices(
        images=images[head],
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


def _nearest(stack: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize label slices (Z, H, W) by taking the nearest pixel."""
    return functional.interpolate(stack[:, None], size, mode="nearest-exact")[:, 0]


def _window(stack: torch.Tensor, corner: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Cut or zero-pad (..., H, W) to the window that starts at ``corner``."""
    height, width = stack.shape[-2:]
    top, left = corner
    padding = (-left, left + size[1] - width, -top, top + size[0] - height)
    return functional.pad(stack, padding)


def _centred(stack: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut or pad (..., H, W) to ``size`` about its centre."""
    corner = tuple((now - then) // 2 for now, then in zip(stack.shape[-2:], size, strict=True))
    return _window(stack, corner, size)


def _round_up(edge: float) -> int:
    return int(np.ceil(edge / MULTIPLE)) * MULTIPLE
