"""The T1 brought to the FLAIR's grid: through the headers, or by a rigid registration.

By default the positions in the headers are used, but checked: a rigid registration measures how far
the two heads lie apart although the headers place them in one space.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage.filters import threshold_otsu

from wmh.atlas.grids import bounding_box, cut, one_thread
from wmh.images import Image, ImageError, resample_to, same_grid

WRONG_HEADER_MM = 5.0
"""Mean distance above which the headers are reported as wrong; heads move less between scans."""
LEAST_OVERLAP = 0.5
"""Share of the head in the FLAIR that the T1's field of view must hold."""
BETTER = 1.05
"""A quick registration is used instead of the headers if mutual information rises by this factor.
"""
HEAD_MM = 4.0
"""Distance of the points that stand for a head."""
BINS = 32
"""Bins of the intensity histograms for mutual information."""
BLANK_MM = 20.0
"""Width of the blank margin around a head that is kept."""
COARSE_MM, FINE_MM, FINE_SAMPLES = 8.0, 4.0, 0.4
"""The two resolutions of the rigid registration; the share of voxels sampled at the fine one."""


@dataclass(frozen=True)
class Rigid:
    """A rigid motion of world space (mm) from a point in the FLAIR to that anatomy in the T1."""

    matrix: np.ndarray  # (4, 4)
    offset_mm: float
    """Mean distance, over the head, by which the motion moves a point placed by the headers."""
    common: float
    """Mutual information of the two images where they fit best."""


def bring_t1_to_flair(
    t1: Image, flair: Image, register: bool, seed: int
) -> tuple[Image, float | None]:
    """The T1 on the FLAIR's grid, and how far it lay off the FLAIR in mm.

    With ``register`` the T1 is moved rigidly to where it fits the FLAIR best; otherwise it is
    resampled through the headers alone. The offset is None (not measured) if both have one grid and
    ``register`` is false. Raises :class:`ImageError` when the two do not overlap.
    """
    raise_without_overlap(t1, flair)
    if same_grid(t1, flair) and not register:
        return resample_to(t1, flair), None
    rigid = register_rigidly(t1, flair, seed)
    if register:  # FLAIR point -> T1 point, so the T1's grid moves by the inverse
        t1 = Image(t1.data, np.linalg.inv(rigid.matrix) @ t1.affine, t1.path, t1.header)
    return resample_to(t1, flair), rigid.offset_mm


def register_rigidly(moving: Image, fixed: Image, seed: int) -> Rigid:
    """Find the rigid motion that brings ``moving`` onto ``fixed`` (Mattes mutual information).

    It starts once from the headers and once from the two centres of mass, in case the headers are
    far off; the better fit counts. One thread and a fixed seed give the same result every time.
    """
    pair = [_itk(_unpadded(image)) for image in (fixed, moving)]
    with one_thread():
        coarse = [_coarse(image, COARSE_MM) for image in pair]
        fits = [_fit(*coarse, start, 4.0, 1.0, seed) for start in _starts(*pair)]
        _, best = min(fits, key=lambda fit: fit[0])
        fine = [_coarse(image, FINE_MM) for image in pair]
        return _rigid(*_fit(*fine, best, 3.0, FINE_SAMPLES, seed), fixed)


def measure_offset(moving: Image, fixed: Image, seed: int) -> Rigid:
    """Measure, to about 3 mm, how far ``moving`` lies off ``fixed`` by their headers.

    The offset is 0 unless a rigid motion, found quickly at ``COARSE_MM``, makes the two fit clearly
    better than the headers do.
    """
    with one_thread():
        pair = [_coarse(_itk(_unpadded(image)), COARSE_MM) for image in (fixed, moving)]
        starts = _starts(*pair)
        method = _mutual_information(sitk.Euler3DTransform(starts[0]))
        as_is = -method.MetricEvaluate(*pair)
        fits = [_fit(*pair, start, 4.0, 1.0, seed) for start in starts]
        metric, best = min(fits, key=lambda fit: fit[0])
    better = -metric >= BETTER * as_is
    return _rigid(metric, best, fixed) if better else Rigid(np.eye(4), 0.0, as_is)


def head_mask(image: Image) -> np.ndarray:
    """The head (or the brain, where the rest was removed) as a filled mask (x, y, z)."""
    data = ndimage.gaussian_filter(image.data, 0.7)
    bright = data > 0.3 * threshold_otsu(data)
    parts, count = ndimage.label(ndimage.binary_opening(bright))
    if count == 0:
        return bright
    head = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    for axis in range(3):
        for plane in np.moveaxis(head, axis, 0):
            plane[...] = ndimage.binary_fill_holes(plane)
    return head


def raise_without_overlap(t1: Image, flair: Image) -> None:
    """Raise :class:`ImageError` unless the T1's field of view holds the head in the FLAIR."""
    voxels = nib.affines.apply_affine(np.linalg.inv(t1.affine), _head_points(flair))
    inside = ((voxels > -0.5) & (voxels < np.array(t1.data.shape) - 0.5)).all(axis=1)
    if inside.mean() < LEAST_OVERLAP:
        raise ImageError(
            t1.path,
            f"holds only {inside.mean():.0%} of the head in {flair.path}",
            "Check that both come from one person and session, and that no tool removed the origin "
            "from a header",
        )


def _rigid(metric: float, transform: sitk.Euler3DTransform, fixed: Image) -> Rigid:
    """The motion that a transform makes, and how far it moves the head in the fixed image."""
    turn, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    shift = centre + transform.GetTranslation() - turn @ centre
    matrix, points = nib.affines.from_matvec(turn, shift), _head_points(fixed)
    moved = nib.affines.apply_affine(matrix, points)
    return Rigid(matrix, float(np.linalg.norm(moved - points, axis=1).mean()), -metric)


def _head_points(image: Image) -> np.ndarray:
    """World coordinates (n, 3) in mm of points in the head, about 4 mm apart."""
    step = np.maximum(1, HEAD_MM // image.voxel_size).astype(int)
    thinned = Image(image.data[tuple(slice(None, None, n) for n in step)], image.affine)
    return nib.affines.apply_affine(image.affine, np.argwhere(head_mask(thinned)) * step)


def _starts(fixed: sitk.Image, moving: sitk.Image) -> tuple[sitk.Euler3DTransform, ...]:
    """Two starting positions: by the headers, and with the centres of mass at one point."""
    centred = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    as_the_headers_say = sitk.Euler3DTransform(centred)
    as_the_headers_say.SetTranslation((0.0, 0.0, 0.0))
    return as_the_headers_say, centred


def _mutual_information(transform: sitk.Euler3DTransform) -> sitk.ImageRegistrationMethod:
    """A registration that moves ``transform``, by mutual information over all voxels."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _fit(
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
    step_mm: float,
    samples: float,
    seed: int,
) -> tuple[float, sitk.Euler3DTransform]:
    """The metric (lower is better) and the transform reached from one start.

    ``step_mm`` is the first step, ``samples`` the share of voxels that the metric is drawn from.
    """
    transform = sitk.Euler3DTransform(start)
    method = _mutual_information(transform)
    if samples < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        # a seed of 0 would be replaced by the time of day
        method.SetMetricSamplingPercentage(samples, seed or 1)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.02, 100, 0.8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.Execute(fixed, moving)
    return method.GetMetricValue(), transform


def _unpadded(image: Image) -> Image:
    """An image without most of its blank margin, whose size differs between images."""
    margin = np.ceil(BLANK_MM / image.voxel_size).astype(int)
    return cut(image, bounding_box(image.data > 0, margin))


def _itk(image: Image) -> sitk.Image:
    """An image for SimpleITK, in the world axes of NIfTI (right, anterior, superior)."""
    result = sitk.GetImageFromArray(np.ascontiguousarray(image.data.T))
    size = image.voxel_size
    direction = image.affine[:3, :3] / size
    u, _, vt = np.linalg.svd(direction)  # the nearest rotation or reflection, for sheared headers
    result.SetSpacing(size.tolist())
    result.SetDirection((u @ vt).ravel().tolist())
    result.SetOrigin(image.affine[:3, 3].tolist())
    return result


def _coarse(image: sitk.Image, spacing: float) -> sitk.Image:
    """An image smoothed and resampled to about ``spacing`` mm, never finer than it is."""
    own = np.array(image.GetSpacing())
    size = np.maximum(np.round(np.array(image.GetSize()) * own / spacing), 4).astype(int)
    size = np.minimum(size, image.GetSize())
    new = own * np.array(image.GetSize()) / size
    smooth = image
    for axis, (fine, wide) in enumerate(zip(own, new, strict=True)):
        if wide > 1.2 * fine:
            smooth = sitk.RecursiveGaussian(smooth, float(0.4 * wide), False, 0, axis)
    shift = np.array(image.GetDirection()).reshape(3, 3) @ ((new - own) / 2)
    return sitk.Resample(
        smooth,
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        (np.array(image.GetOrigin()) + shift).tolist(),
        new.tolist(),
        image.GetDirection(),
        0.0,
        sitk.sitkFloat32,
    )
