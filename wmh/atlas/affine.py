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

HISTOGRAM_BINS = 32
DESCENT_VOXELS = 160_000
EVOLUTION_VOXELS = 20_000
"""Voxels from which the mutual information is estimated; the evolution needs many evaluations."""


@one_thread()
def descend(
    fixed: Image,
    moving: Image,
    start: np.ndarray,
    seed: int,
    mask: Image | None = None,
) -> np.ndarray:
    """Gradient descent from ``start``, on voxels of the fixed image drawn with the seed.

    ``mask`` (on the fixed grid) limits where the images are compared. Steps are measured by the
    voxel that moves most and end at 0.02 mm.
    """
    registration = _mutual_information(_share(fixed, DESCENT_VOXELS), seed, mask)
    registration.SetOptimizerAsRegularStepGradientDescent(
        learningRate=float(fixed.voxel_size[0]),
        minStep=0.02,
        numberOfIterations=100,
        relaxationFactor=0.5,
        gradientMagnitudeTolerance=1e-6,
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    return _run(registration, fixed, moving, start)


@one_thread()
def evolve(fixed: Image, moving: Image, start: np.ndarray, seed: int) -> np.ndarray:
    """The optimiser of the published script: (1+1)-evolutionary (Styner et al. 2000)."""
    registration = _mutual_information(_share(fixed, EVOLUTION_VOXELS), seed)
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


def _share(fixed: Image, voxels: int) -> float:
    return min(1.0, voxels / fixed.data.size)


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
