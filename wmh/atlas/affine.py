"""Affine transforms between two images by Mattes mutual information (Mattes et al. 2003).

Matrices (4, 4) map points of the fixed image's world to the moving image's, both RAS mm. The same
input and seed give the same bits: sums run on one thread, in one order, on any machine.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from wmh.atlas.grids import LPS, one_thread, to_sitk
from wmh.images import Image

HISTOGRAM_BINS = 16
WHOLE_VOXELS = 150_000
"""Images of up to as many voxels are compared whole."""
DESCENT_VOXELS, EVOLUTION_VOXELS = 50_000, 20_000
"""Voxels drawn from larger ones; the evolution needs many evaluations."""
SMALLEST_STEP = 0.01
"""Step at which a descent ends, in voxels of the fixed image."""


@one_thread()
def descend(
    fixed: Image,
    moving: Image,
    start: np.ndarray,
    seed: int,
    mask: Image | None = None,
    times: int = 2,
) -> np.ndarray:
    """Gradient descent from ``start``, on voxels of the fixed image drawn with the seed.

    ``mask`` (on the fixed grid) limits where the images are compared. Steps are measured by the
    voxel that moves most. A descent halves them at every turn and so may end on the slope of a
    narrow valley; it starts ``times`` times, each from where the last ended, with smaller steps and
    on other voxels.
    """
    voxel_mm = float(fixed.voxel_size[0])
    share = 1.0 if fixed.data.size <= WHOLE_VOXELS else DESCENT_VOXELS / fixed.data.size
    for repeat in range(times):
        registration = _mutual_information(share, seed + repeat, mask)
        registration.SetOptimizerAsRegularStepGradientDescent(
            learningRate=voxel_mm / 2**repeat,
            minStep=SMALLEST_STEP * voxel_mm,
            numberOfIterations=100,
            relaxationFactor=0.5,
            gradientMagnitudeTolerance=1e-6,
        )
        registration.SetOptimizerScalesFromPhysicalShift()
        start = _run(registration, fixed, moving, start)
    return start


@one_thread()
def evolve(fixed: Image, moving: Image, start: np.ndarray, seed: int) -> np.ndarray:
    """The optimiser of the published script: (1+1)-evolutionary (Styner et al. 2000)."""
    registration = _mutual_information(min(1.0, EVOLUTION_VOXELS / fixed.data.size), seed)
    registration.SetOptimizerAsOnePlusOneEvolutionary(
        numberOfIterations=1000, epsilon=1e-4, initialRadius=0.05, growthFactor=1.01, seed=seed
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    return _run(registration, fixed, moving, start)


@one_thread()
def mutual_information(
    fixed: Image, moving: Image, matrix: np.ndarray, mask: Image | None = None
) -> float:
    """How much the two images tell of each other under ``matrix``; more is better."""
    registration = _mutual_information(1.0, 1, mask)
    registration.SetInitialTransform(_to_transform(fixed, matrix))
    return -registration.MetricEvaluate(to_sitk(fixed), to_sitk(moving))


def _mutual_information(
    share: float, seed: int, mask: Image | None = None
) -> sitk.ImageRegistrationMethod:
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    registration.SetMetricSamplingStrategy(registration.NONE if share == 1 else registration.RANDOM)
    registration.SetMetricSamplingPercentage(share, seed % 2**31 or 1)  # 0 would mean the clock
    registration.SetInterpolator(sitk.sitkLinear)
    if mask is not None:
        registration.SetMetricFixedMask(sitk.Cast(to_sitk(mask), sitk.sitkUInt8))
    return registration


def _run(
    registration: sitk.ImageRegistrationMethod, fixed: Image, moving: Image, start: np.ndarray
) -> np.ndarray:
    transform = _to_transform(fixed, start)
    registration.SetInitialTransform(transform, inPlace=True)
    registration.Execute(to_sitk(fixed), to_sitk(moving))
    centre = np.array(transform.GetCenter())
    linear = np.reshape(transform.GetMatrix(), (3, 3))
    offset = centre + transform.GetTranslation() - linear @ centre
    return LPS @ nib.affines.from_matvec(linear, offset) @ LPS


def _to_transform(fixed: Image, matrix: np.ndarray) -> sitk.AffineTransform:
    """SimpleITK's transform (LPS), turning about the fixed image's centre."""
    matrix = LPS @ matrix @ LPS
    centre = nib.affines.apply_affine(LPS @ fixed.affine, (np.array(fixed.data.shape) - 1) / 2)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((nib.affines.apply_affine(matrix, centre) - centre).tolist())
    return transform
