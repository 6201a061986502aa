"""Cut a volume into axial slices for a network, and put its prediction back on the volume's grid.

Images stay in native space. Array axes are turned to the closest right-anterior-superior order,
slices may be resampled in plane to the study's voxel size, and intensities are divided by their
median inside the head. Slices are never resampled through plane; slices thinner than a network was
trained on are averaged with their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch.nn import functional

from wmh.images import Image, ImageError, from_ras, to_ras

MULTIPLE = 8
"""Slice edges are multiples of this, so that there are few sizes and networks pad little."""

MARGIN = 2
"""Free pixels around the head in every slice."""

COARSE_MM = 2.5
"""Voxel size at which the head is found."""

SKIN_MM = 10.0
"""Intensities are normalised by the part of the head below this depth: little scalp or skull."""

BRIGHTEST = 4.0
"""Normalised intensities are clipped here, at four times the tissue median."""


@dataclass(frozen=True)
class SlicePlan:
    """Record of how a volume was cut, so that predictions can be put back on its grid."""

    like: Image
    native: tuple[int, int]
    resampled: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]
    span: tuple[int, int]
    """First slice with head, and the one after the last."""
    thickness_mm: float

    @property
    def depth_mm(self) -> torch.Tensor:
        """Depth below the crown of the head of each slice of the span, in mm."""
        first, end = self.span
        return torch.arange(end - first - 1, -1, -1) * self.thickness_mm

    def to_slices(self, volume: np.ndarray) -> torch.Tensor:
        """Cut a volume on the grid of ``like`` into slices (Z, H, W), float32."""
        return self._cut(volume.astype(np.float32, copy=False), mode="bilinear", antialias=True)

    def labels_to_slices(self, labels: np.ndarray) -> torch.Tensor:
        """Cut a volume of labels: each pixel (Z, H, W) takes the nearest voxel's label."""
        return self._cut(labels, mode="nearest-exact")

    def to_volume(self, stack: torch.Tensor) -> np.ndarray:
        """Put slices (Z, H, W) back: an array on the grid of ``like``, zero outside the window."""
        return self._put_back(stack.float(), mode="bilinear")

    def labels_to_volume(self, stack: torch.Tensor) -> np.ndarray:
        """Put label slices (Z, H, W) back: a uint8 array on the grid of ``like``."""
        return self._put_back(stack.byte(), mode="nearest-exact")

    def _cut(self, volume: np.ndarray, **how: object) -> torch.Tensor:
        turned = to_ras(Image(volume, self.like.affine)).data.transpose(2, 0, 1)
        stack = torch.from_numpy(np.ascontiguousarray(turned))
        return window(_resized(stack, self.resampled, **how), self.corner, self.size)

    def _put_back(self, stack: torch.Tensor, **how: object) -> np.ndarray:
        stack = window(stack, (-self.corner[0], -self.corner[1]), self.resampled)
        stack = _resized(stack, self.native, **how)
        return from_ras(stack.numpy().transpose(1, 2, 0), self.like)


def plan_slices(image: Image, voxel_size_mm: float | None) -> SlicePlan:
    """Plan how to cut an image: a window around the head, resampled, its edges multiples of 8.

    Raises :class:`ImageError` when no head can be told from the background.
    """
    turned = to_ras(image)
    head, stride = find_head(turned)
    native = turned.data.shape[:2]
    target = turned.voxel_size[:2] if voxel_size_mm is None else (voxel_size_mm, voxel_size_mm)
    zoom = turned.voxel_size[:2] / target
    resampled = tuple(max(1, round(n * z)) for n, z in zip(native, zoom, strict=True))
    corner, size = [], []
    for axis in (0, 1):
        inside = np.flatnonzero(head.any(axis=tuple({0, 1, 2} - {axis}))) * stride[axis]
        low, high = (inside[[0, -1]] + (0, stride[axis])) * resampled[axis] / native[axis]
        edge = int(np.ceil((high - low + 2 * MARGIN) / MULTIPLE)) * MULTIPLE
        corner.append(round((low + high - edge) / 2))
        size.append(edge)
    shown = np.flatnonzero(head.any(axis=(0, 1))) * stride[2]
    return SlicePlan(
        like=image,
        native=native,
        resampled=resampled,
        corner=tuple(corner),
        size=tuple(size),
        span=(int(shown[0]), min(int(shown[-1]) + stride[2], turned.data.shape[2])),
        thickness_mm=float(turned.voxel_size[2]),
    )


def find_head(image: Image) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Find the head: the largest connected part brighter than the background, at about 2.5 mm.

    Returns its mask on every ``stride``-th voxel of the image along each axis, and the stride.
    Raises :class:`ImageError` if there is none.
    """
    stride = tuple(int(max(1, step)) for step in COARSE_MM // image.voxel_size)
    data = image.data[tuple(slice(None, None, step) for step in stride)]
    above = data[data > data.min()]
    clipped = np.minimum(data, np.percentile(above, 99) if len(above) else data.min())
    bright = clipped > 0.5 * threshold_otsu(clipped)
    pieces, count = ndimage.label(ndimage.binary_opening(bright))
    if not count:
        raise ImageError(image.path, "no head found", "Look at the image; it may be empty")
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1, stride


def normalise(image: Image) -> np.ndarray:
    """Intensities divided by their median deep inside the head: tissue near 1, background near 0.

    Only tissue at least ``SKIN_MM`` inside the head sets the scale, so that a brain without skull
    and a whole head get the same intensities. Raises :class:`ImageError` if the median is not above
    0.
    """
    head, stride = find_head(image)
    filled = ndimage.binary_fill_holes(np.pad(head, 1))
    depth = ndimage.distance_transform_edt(filled, sampling=image.voxel_size * stride)
    data = image.data[tuple(slice(None, None, step) for step in stride)]
    deep = depth[1:-1, 1:-1, 1:-1] > SKIN_MM
    median = np.median(data[deep] if deep.any() else data[head])
    if not median > 0:
        raise ImageError(
            image.path,
            f"the median intensity inside the head is {median:g}, but must be above 0",
            "Give the image as it came from the scanner, not scaled to a mean of 0",
        )
    return np.clip(image.data / median, 0, BRIGHTEST).astype(np.float32)


def as_thick(stack: torch.Tensor, have_mm: float, wanted_mm: float) -> torch.Tensor:
    """Slices (Z, H, W) averaged as if each were ``wanted_mm`` thick; thicker ones stay unchanged.

    A slice keeps its position and becomes the mean over the slab around its middle. It then has the
    partial-volume blur and the low noise of the slices that a network was trained on.
    """
    slab_mm = max(have_mm, wanted_mm)
    reach = int(np.ceil((slab_mm / have_mm - 1) / 2))
    shift = torch.arange(-reach, reach + 1)
    upper = ((shift + 0.5) * have_mm).clamp(max=slab_mm / 2)
    lower = ((shift - 0.5) * have_mm).clamp(min=-slab_mm / 2)
    weights = (upper - lower) / (upper - lower).sum()
    numbers = torch.arange(len(stack))
    return sum(
        weight * stack[(numbers + step).clamp(0, len(stack) - 1)]
        for step, weight in zip(shift.tolist(), weights.tolist(), strict=True)
    )


def _resized(stack: torch.Tensor, size: tuple[int, int], **how: object) -> torch.Tensor:
    """Slices (Z, H, W) resampled in plane, unless they have the size already."""
    if stack.shape[1:] == size:
        return stack
    return functional.interpolate(stack[:, None], size, **how)[:, 0]


def window(stack: torch.Tensor, corner: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Cut or zero-pad (..., H, W) to the window that starts at ``corner``."""
    height, width = stack.shape[-2:]
    top, left = corner
    padding = (-left, left + size[1] - width, -top, top + size[0] - height)
    return functional.pad(stack, padding)


def centred(stack: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut or pad (..., H, W) to ``size`` about its centre."""
    corner = tuple((now - then) // 2 for now, then in zip(stack.shape[-2:], size, strict=True))
    return window(stack, corner, size)
