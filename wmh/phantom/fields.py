"""Smooth random fields, and the fine grid on which a subject is drawn and then averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

PLANES = 4
"""Number of planes of a fine grid that :func:`by_planes` processes at a time."""


def soft_step(x: np.ndarray) -> np.ndarray:
    """0 far below zero, 0.5 at zero, 1 far above: the logistic function."""
    step = np.tanh(0.5 * x)
    step *= 0.5
    step += 0.5
    return step


def by_planes(
    function: Callable[..., tuple[np.ndarray, ...]], *fine: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Apply a voxel-wise ``function`` to arrays (..., x, y, z), a few planes at a time.

    Intermediate results then stay in the processor's cache.
    """
    starts = range(0, fine[0].shape[-3], PLANES)
    parts = [function(*(a[..., i : i + PLANES, :, :] for a in fine)) for i in starts]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


@dataclass(frozen=True)
class FineGrid:
    """A box of native voxels, each divided into ``parts`` along each axis.

    Averaging the parts of a voxel gives partial volume. ``affine`` and ``shape`` are those of the
    native grid; ``start`` is the box's first native voxel, and ``count`` its number of native
    voxels along each axis.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    start: np.ndarray
    count: np.ndarray
    parts: np.ndarray

    @property
    def fine_shape(self) -> tuple[int, int, int]:
        """Number of fine voxels along each axis."""
        return tuple(int(n) for n in self.count * self.parts)

    @property
    def native_spacing(self) -> np.ndarray:
        """Edge lengths of a native voxel in mm, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def spacing(self) -> np.ndarray:
        """Edge lengths of a fine voxel in mm, shape (3,)."""
        return self.native_spacing / self.parts

    @property
    def fine_affine(self) -> np.ndarray:
        """Fine voxel index to world mm, shape (4, 4)."""
        first = self.start + 0.5 / self.parts - 0.5
        return self.affine @ nib.affines.from_matvec(np.diag(1 / self.parts), first)

    def average(self, fine: np.ndarray, blur_mm: Sequence[float] = (0, 0, 0)) -> np.ndarray:
        """Mean over the parts of each native voxel of the box: fine shape to ``count``.

        ``blur_mm`` is the sigma, along each axis, of a Gaussian that blurs the values before.
        """
        for axis in (2, 1, 0):  # blurred and averaged along each, on ever fewer values
            parts, sigma = self.parts[axis], blur_mm[axis] / self.spacing[axis]
            fine = ndimage.gaussian_filter1d(fine, sigma, axis, truncate=2.5) if sigma else fine
            first, *others = (slice(p, None, int(parts)) for p in range(parts))
            lead = (slice(None),) * axis
            total = fine[(*lead, first)].astype(np.float32)
            for other in others:
                total += fine[(*lead, other)]
            fine = total
        return fine / np.float32(self.parts.prod())

    def centres(self, fine: np.ndarray) -> np.ndarray:
        """The fine value at, or next to, the centre of each native voxel of the box."""
        x, y, z = (slice(int(p) // 2, None, int(p)) for p in self.parts)
        return fine[x, y, z]

    def embed(self, box: np.ndarray, background: float = 0) -> np.ndarray:
        """Put an array on the box into the whole native field of view."""
        whole = np.full(self.shape, background, dtype=box.dtype)
        x, y, z = (slice(s, s + n) for s, n in zip(self.start, self.count, strict=True))
        whole[x, y, z] = box
        return whole


def enlarge(coarse: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Trilinear interpolation of an array (x, y, z) to ``shape`` with aligned corners, float32."""
    result = coarse.astype(np.float32)
    for axis in (2, 1, 0):  # the last axis does most of the work, in whole planes
        planes = np.ascontiguousarray(np.moveaxis(result, axis, 0))
        rise = np.diff(planes, axis=0, append=planes[-1:])
        position = np.linspace(0, len(planes) - 1, shape[axis])
        low = position.astype(int)
        weights = (position - low).astype(np.float32)
        between = np.empty((shape[axis], *planes.shape[1:]), dtype=np.float32)
        for plane, below, weight in zip(between, low, weights, strict=True):
            np.multiply(rise[below], weight, out=plane)
            plane += planes[below]
        result = np.moveaxis(between, 0, axis)
    return result


def on_every_second(
    function: Callable[..., np.ndarray], positions: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """A smooth function of position, computed at every second voxel and interpolated between.

    ``function`` gets the coordinates x, y, z of ``positions`` (3, x, y, z), then ``others``.
    """
    every_second = (..., *[slice(None, None, 2)] * 3)
    sparse = function(*positions[every_second], *(other[every_second] for other in others))
    even = enlarge(sparse, tuple(2 * n - 1 for n in sparse.shape))
    missing = [(0, n - m) for n, m in zip(positions.shape[1:], even.shape, strict=True)]
    return np.pad(even, missing, mode="edge")


def smooth_field(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    spacing: np.ndarray,
    width_mm: float,
) -> np.ndarray:
    """A Gaussian random field of mean 0 and standard deviation 1, float32, of shape ``shape``.

    ``width_mm`` is the sigma of the Gaussian that smooths white noise. The noise is drawn on a grid
    of about that spacing and enlarged, which is fast for smooth fields.
    """
    extent = np.asarray(shape) * np.asarray(spacing)
    nodes = np.maximum(np.ceil(extent / (0.8 * width_mm)).astype(int) + 1, 4)
    noise = generator.standard_normal(nodes + 4, dtype=np.float32)
    field = ndimage.gaussian_filter(noise, 1.25, truncate=3)[2:-2, 2:-2, 2:-2]
    field = (field - field.mean()) / field.std()
    return enlarge(field, shape)
