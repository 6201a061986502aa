"""Conversion between :class:`wmh.images.Image` (RAS) and SimpleITK (LPS), crops and coarse copies.

Affines of this package map to RAS mm; SimpleITK's convention (LPS) is used only to talk to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.ndimage import find_objects, map_coordinates

from wmh.images import Image

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Affine from RAS mm to LPS mm, and back."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Run SimpleITK on one thread, so that sums have one order and results are the same bits.

    A filter's own setting has no effect on a registration's metric; only the global default has.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_sitk(image: Image) -> sitk.Image:
    """A SimpleITK image (float32) with the same position in the world."""
    volume = sitk.GetImageFromArray(np.ascontiguousarray(image.data.T, dtype=np.float32))
    affine = LPS @ image.affine
    spacing = nib.affines.voxel_sizes(image.affine)
    volume.SetSpacing(spacing.tolist())
    volume.SetOrigin(affine[:3, 3].tolist())
    volume.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return volume


def from_sitk(volume: sitk.Image) -> Image:
    """The SimpleITK image, of scalars or vectors, as an image in RAS world."""
    axes = np.reshape(volume.GetDirection(), (3, 3)) * volume.GetSpacing()
    affine = LPS @ nib.affines.from_matvec(axes, volume.GetOrigin())
    return Image(np.swapaxes(sitk.GetArrayFromImage(volume), 0, 2), affine)


def crop(image: Image, margin_mm: float) -> Image:
    """The box around all voxels above 0, with a margin; the whole image if there are none."""
    margin = np.ceil(margin_mm / image.voxel_size).astype(int)
    return cut(image, bounding_box(image.data > 0, margin))


def bounding_box(mask: np.ndarray, margin: np.ndarray | int = 0) -> tuple[slice, ...]:
    """Slices of the box around a mask with a margin in voxels; for an empty mask, of everything."""
    found = find_objects(mask.astype(np.uint8))
    if not found:
        return tuple(slice(0, n) for n in mask.shape)
    low = np.maximum(np.array([side.start for side in found[0]]) - margin, 0)
    high = np.minimum(np.array([side.stop for side in found[0]]) + margin, mask.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def cut(image: Image, box: tuple[slice, ...]) -> Image:
    """The part of an image in a box, at its position in the world."""
    first = nib.affines.apply_affine(image.affine, [side.start for side in box])
    return Image(image.data[box], nib.affines.from_matvec(image.affine[:3, :3], first), image.path)


def isotropic(image: Image, spacing_mm: float) -> Image:
    """The image on cubic voxels of ``spacing_mm``, along its own axes, without aliasing.

    Axes finer than the spacing are smoothed first; the box covered stays the same.
    """
    volume = to_sitk(image)
    size, spacing = np.array(volume.GetSize()), np.array(volume.GetSpacing())
    for axis in range(3):
        if spacing[axis] < spacing_mm and size[axis] >= 4:
            sigma = 0.5 * np.sqrt(spacing_mm**2 - spacing[axis] ** 2)
            volume = sitk.RecursiveGaussian(volume, float(sigma), False, 0, axis)
    cubes = np.ceil(size * spacing / spacing_mm).astype(int)
    first = (size - 1) / 2 - (cubes - 1) / 2 * spacing_mm / spacing
    resampled = sitk.Resample(
        volume,
        cubes.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        volume.TransformContinuousIndexToPhysicalPoint(first.tolist()),
        [spacing_mm] * 3,
        volume.GetDirection(),
        0.0,
    )
    return replace(from_sitk(resampled), path=image.path)


def sample(image: Image, points: np.ndarray) -> np.ndarray:
    """The value of the voxel nearest to each point (n, 3) in world mm; 0 outside the image."""
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), points)).astype(int)
    inside = ((index >= 0) & (index < image.data.shape)).all(axis=1)
    values = np.zeros(len(points), dtype=image.data.dtype)
    values[inside] = image.data[tuple(index[inside].T)]
    return values


def voxel_centres(image: Image, inside: np.ndarray | None = None) -> np.ndarray:
    """World mm (n, 3) of the centres of all voxels, or of those where ``inside`` is true."""
    if inside is not None:
        return nib.affines.apply_affine(image.affine, np.argwhere(inside))
    steps, first = image.affine[:3, :3].T, image.affine[:3, 3]
    x, y, z = (np.outer(np.arange(n), s) for n, s in zip(image.data.shape, steps, strict=True))
    return (x[:, None, None] + y[:, None] + (z + first)).reshape(-1, 3)


def interpolate(image: Image, points: np.ndarray) -> np.ndarray:
    """The image's value at points (n, 3) in world mm, linear between voxels; 0 outside."""
    index = nib.affines.apply_affine(np.linalg.inv(image.affine), points).T
    return map_coordinates(image.data, index, order=1, output=np.float32)
