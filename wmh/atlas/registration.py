"""Registration of an atlas to a subject by their white matter, and transfer of the labels.

As in Machnio et al. (2024), the atlas's white matter is registered to the subject's by an affine
transform that maximises Mattes mutual information (Mattes et al. 2003). Labels are then transferred
by nearest neighbour. Two things are added: a fit starts from the moments of the two masks, and it
is checked. If the blurred masks do not agree, it starts again from other orientations; a fit that
stays doubtful is reported. Affine matrices (4, 4) map points of the fixed image's world to the
moving image's, both in RAS mm. The same input and seed give the same bits, because sums run on one
thread in one order.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.linalg import polar
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from wmh.atlas.grids import (
    LPS,
    crop,
    from_sitk,
    interpolate,
    isotropic,
    one_thread,
    sample,
    to_sitk,
    voxel_centres,
)
from wmh.images import Image, ImageError

METHODS = ("affine", "paper", "deformable")
"""Methods to refine a coarse fit: gradient descent, the published script's optimiser, and gradient
descent followed by a smooth deformation."""

FINE_MM, MIDDLE_MM, COARSE_MM = 2.0, 4.0, 8.0
MARGIN_MM = 16.0

AGREEMENT = 0.76
"""Similarity above which a fit is taken as correct.

Correct fits of the thin published masks with 3 mm slices reached 0.79 to 0.87, and those of whole
white matter 0.90 and more. Upside-down, reversed and otherwise wrong fits stayed below 0.74.
"""
MOST_ATTEMPTS = 10
HISTOGRAM_BINS = 16
WHOLE_VOXELS = 40_000
"""Images with at most so many voxels are compared in all voxels."""
DESCENT_VOXELS, EVOLUTION_VOXELS = 25_000, 20_000
"""Number of voxels drawn from larger images, for gradient descent and the evolutionary optimiser.
The latter needs many evaluations."""
SMALLEST_STEP, SHORTENING = 0.01, 0.7
"""Step size at which a descent ends, in voxels of the fixed image, and the factor by which a step
is shorter than the last after a change of direction. At 0.5, one fit in forty stopped far from the
optimum."""
DEMONS_ITERATIONS = 80
SMOOTHNESS_MM = 6.0
"""Standard deviation of the Gaussian that keeps the deformation smooth."""

TILTS = [
    Rotation.from_euler("xyz", angles, degrees=True)
    for angles in itertools.product((-40, 0, 40), repeat=3)
]
TURNS = [Rotation.identity(), *(Rotation.from_rotvec(np.pi * axis) for axis in np.eye(3))]
"""Half turns about the world's axes, as from a header with two axes reversed."""


class RegistrationWarning(UserWarning):
    """A doubtful fit that someone should look at."""


@dataclass(frozen=True)
class Transform:
    """From the subject's world to the atlas's, both in RAS mm: displace, then apply ``matrix``."""

    matrix: np.ndarray
    displacement: Image | None = None
    """mm to add to a subject's point before the matrix: data (x, y, z, 3) on their own grid."""

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points of the subject (n, 3) in mm to points of the atlas (n, 3) in mm."""
        return nib.affines.apply_affine(self.matrix, points + self._displacement_at(points))

    def _displacement_at(self, points: np.ndarray) -> np.ndarray:
        if self.displacement is None:
            return np.zeros_like(points, dtype=float)
        field = self.displacement
        index = nib.affines.apply_affine(np.linalg.inv(field.affine), points).T
        return np.stack(
            [map_coordinates(field.data[..., k], index, order=1, mode="nearest") for k in range(3)],
            axis=1,
        )


@dataclass(frozen=True)
class Fit:
    """A registration and its quality."""

    transform: Transform
    white_matter_dice: float
    """Dice of the subject's white matter and the transformed atlas's, on the subject's grid."""
    similarity: float
    """Correlation of the two masks on voxels of 4 mm, which is high if their shapes agree."""
    attempts: int
    """Number of starts that were tried."""
    seconds: float
    doubt: str | None = None
    """Why the fit is doubtful; None if it is not."""


def register_atlas(
    white_matter: Image, atlas_white_matter: Image, seed: int, method: str = "affine"
) -> Fit:
    """Find the transform from a subject's white matter to an atlas's.

    Both images are masks or probabilities (0 to 1). ``method`` is one of :data:`METHODS`. A
    doubtful fit causes a :class:`RegistrationWarning`, and ``doubt`` says why. Raises
    :class:`ImageError` for an empty mask.
    """
    started = time.perf_counter()
    for image in (white_matter, atlas_white_matter):
        if not (image.data > 0).any():
            raise ImageError(
                image.path, "holds no white matter", "Give a mask that is 1 in white matter"
            )
    subject, atlas = _Pyramid(white_matter), _pyramid_of_atlas(atlas_white_matter)
    matrix, attempts = _best_start(subject, atlas, seed)
    transform = _refined(subject, atlas, matrix, seed, method)
    similarity = _similarity(subject.middle, atlas.middle, transform)
    dice = white_matter_overlap(white_matter, atlas_white_matter, transform)
    doubt = _doubt(transform, similarity)
    if doubt:
        warnings.warn(f"{white_matter.path}: {doubt}", RegistrationWarning, stacklevel=2)
    return Fit(transform, dice, similarity, attempts, time.perf_counter() - started, doubt)


def carry_labels(labels: Image, fit: Fit, white_matter: Image) -> Image:
    """Atlas labels (uint8) on the subject's grid, only inside its white matter.

    Every voxel of the mask gets the atlas's label at its position (nearest neighbour). A voxel that
    lies outside of the atlas's labels gets the label of the nearest voxel that has one.
    """
    inside = white_matter.data > 0
    points = voxel_centres(white_matter, inside)
    values = sample(labels, fit.transform(points)).astype(np.uint8)
    missed = values == 0
    if missed.all():
        raise ImageError(
            white_matter.path,
            "no label of the atlas lies in its white matter",
            "Look at the fit; labels and white matter of the atlas must be in the same space",
        )
    if missed.any():
        _, nearest = cKDTree(points[~missed]).query(points[missed])
        values[missed] = values[~missed][nearest]
    carried = np.zeros(white_matter.data.shape, dtype=np.uint8)
    carried[inside] = values
    return replace(white_matter, data=carried)


def white_matter_overlap(
    white_matter: Image, atlas_white_matter: Image, transform: Transform
) -> float:
    """Dice of a subject's white matter and the transformed atlas's, on the subject's grid."""
    inside = white_matter.data > 0.5
    carried = sample(atlas_white_matter, transform(voxel_centres(white_matter))) > 0.5
    both = np.count_nonzero(carried & inside.ravel())
    return float(2 * both / max(np.count_nonzero(carried) + np.count_nonzero(inside), 1))


class _Pyramid:
    """A cropped white-matter map on cubic voxels of three sizes."""

    def __init__(self, white_matter: Image):
        self.fine = isotropic(crop(white_matter, MARGIN_MM), FINE_MM)
        self.middle = isotropic(self.fine, MIDDLE_MM)
        self.coarse = isotropic(self.fine, COARSE_MM)

    def moments(self) -> tuple[np.ndarray, float]:
        """Centre (3,) and root mean square distance from it, both in mm."""
        points, weights = voxel_centres(self.coarse), self.coarse.data.ravel()
        centre = np.average(points, axis=0, weights=weights)
        spread = np.average(((points - centre) ** 2).sum(axis=1), weights=weights)
        return centre, float(np.sqrt(spread))


@lru_cache(maxsize=1)  # all subjects of a cohort have the same atlas
def _pyramid_of_atlas(white_matter: Image) -> _Pyramid:
    return _Pyramid(white_matter)


def _best_start(subject: _Pyramid, atlas: _Pyramid, seed: int) -> tuple[np.ndarray, int]:
    """Fit coarsely from several starts until one agrees; return the best matrix, and how many."""
    best, best_similarity = np.eye(4), -np.inf
    for attempts, start in enumerate(_starts(subject, atlas), start=1):  # noqa: B007
        matrix = descend(subject.coarse, atlas.coarse, start, seed)
        matrix = descend(subject.middle, atlas.middle, matrix, seed, first_steps=(1.0, 0.25))
        similarity = _similarity(subject.middle, atlas.middle, Transform(matrix))
        if similarity > best_similarity:
            best, best_similarity = matrix, similarity
        if best_similarity > AGREEMENT:
            break
    return best, attempts


def _starts(subject: _Pyramid, atlas: _Pyramid) -> Iterator[np.ndarray]:
    """Starting matrices with equal moments and several tilts, those with high similarity first.

    Half turns come last, because brains are so symmetric that these look nearly as good as the
    truth.
    """
    (centre, spread), (atlas_centre, atlas_spread) = subject.moments(), atlas.moments()
    for turns in TURNS[:1], TURNS[1:]:
        starts = []
        for turn, tilt in itertools.product(turns, TILTS):
            linear = atlas_spread / spread * (turn * tilt).as_matrix()
            starts.append(nib.affines.from_matvec(linear, atlas_centre - linear @ centre))
        starts.sort(key=lambda m: -_similarity(subject.coarse, atlas.coarse, Transform(m)))
        yield from starts[: MOST_ATTEMPTS // 2]


def _similarity(subject: Image, atlas: Image, transform: Transform) -> float:
    """Correlation of the subject's map with the transformed atlas's, on the subject's grid."""
    carried = _carried(subject, atlas, transform)
    return float(np.corrcoef(subject.data.ravel(), carried.ravel())[0, 1])


def _carried(subject: Image, atlas: Image, transform: Transform) -> np.ndarray:
    """The atlas's map, transformed to the voxels of the subject's."""
    return interpolate(atlas, transform(voxel_centres(subject))).reshape(subject.data.shape)


@one_thread()
def _refined(
    subject: _Pyramid, atlas: _Pyramid, start: np.ndarray, seed: int, method: str
) -> Transform:
    """Refine the transform on fine voxels by one of :data:`METHODS`.

    The deformation comes from diffeomorphic demons (Vercauteren et al. 2009) between the two maps.
    """
    if method == "paper":
        return Transform(evolve(subject.fine, atlas.fine, start, seed))
    affine = Transform(descend(subject.fine, atlas.fine, start, seed, first_steps=(0.5,)))
    if method == "affine":
        return affine
    carried = replace(subject.middle, data=_carried(subject.middle, atlas.middle, affine))
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(DEMONS_ITERATIONS)
    demons.SetStandardDeviations(SMOOTHNESS_MM / MIDDLE_MM)
    field = from_sitk(demons.Execute(to_sitk(subject.middle), to_sitk(carried)))
    return Transform(affine.matrix, replace(field, data=field.data * np.diag(LPS)[:3]))


def _doubt(transform: Transform, similarity: float) -> str | None:
    linear = transform.matrix[:3, :3]
    scales = np.linalg.svd(linear, compute_uv=False)
    turned = np.degrees(Rotation.from_matrix(polar(linear)[0]).magnitude())
    if similarity < AGREEMENT:
        return (
            f"white matter and atlas do not fit well (similarity {similarity:.2f}); look at the fit"
        )
    if scales.max() > 1.6 or scales.min() < 0.6:
        return (
            f"the atlas was scaled by {scales.min():.2f} to {scales.max():.2f}, which is unlikely; "
            "look at the fit"
        )
    if turned > 90:
        return (
            f"by its header the head is turned by {turned:.0f} degrees; check the header, because "
            "the image does not show which side is left"
        )
    return None


@one_thread()
def descend(
    fixed: Image,
    moving: Image,
    start: np.ndarray,
    seed: int,
    mask: Image | None = None,
    first_steps: Sequence[float] = (1.0,),
) -> np.ndarray:
    """Gradient descent from ``start``, on voxels of the fixed image drawn with the seed.

    ``mask`` (on the fixed grid) limits where the images are compared. The size of a step is that of
    the voxel that moves most. There is one descent for each of ``first_steps`` (in voxels), each
    from the end of the last and on other voxels. Steps shorten at every change of direction, so
    that a descent may stop before the optimum, and one with too long a first step may leave it.
    """
    voxel_mm = float(fixed.voxel_size[0])
    share = 1.0 if fixed.data.size <= WHOLE_VOXELS else DESCENT_VOXELS / fixed.data.size
    for number, step in enumerate(first_steps):
        registration = _mutual_information(share, seed + number, mask)
        registration.SetOptimizerAsRegularStepGradientDescent(
            learningRate=step * voxel_mm,
            minStep=SMALLEST_STEP * voxel_mm,
            numberOfIterations=100,
            relaxationFactor=SHORTENING,
            gradientMagnitudeTolerance=1e-6,
        )
        start = _run(registration, fixed, moving, start)
    return start


@one_thread()
def evolve(fixed: Image, moving: Image, start: np.ndarray, seed: int) -> np.ndarray:
    """The (1+1)-evolutionary optimiser of the published script (Styner et al. 2000)."""
    registration = _mutual_information(min(1.0, EVOLUTION_VOXELS / fixed.data.size), seed)
    registration.SetOptimizerAsOnePlusOneEvolutionary(
        numberOfIterations=1000, epsilon=1e-4, initialRadius=0.05, growthFactor=1.01, seed=seed
    )
    return _run(registration, fixed, moving, start)


@one_thread()
def mutual_information(fixed: Image, moving: Image, matrix: np.ndarray, mask: Image) -> float:
    """Mutual information of the two images under ``matrix``; higher is better."""
    registration = _mutual_information(1.0, 1, mask)
    registration.SetInitialTransform(_to_transform(fixed, matrix))
    return -registration.MetricEvaluate(to_sitk(fixed), to_sitk(moving))


def _mutual_information(
    share: float, seed: int, mask: Image | None = None
) -> sitk.ImageRegistrationMethod:
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    registration.SetMetricSamplingStrategy(registration.NONE if share == 1 else registration.RANDOM)
    # a seed of 0 would be replaced by the time of day
    registration.SetMetricSamplingPercentage(share, seed % 2**31 or 1)
    registration.SetInterpolator(sitk.sitkLinear)
    if mask is not None:
        registration.SetMetricFixedMask(sitk.Cast(to_sitk(mask), sitk.sitkUInt8))
    return registration


def _run(
    registration: sitk.ImageRegistrationMethod, fixed: Image, moving: Image, start: np.ndarray
) -> np.ndarray:
    transform = _to_transform(fixed, start)
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetInitialTransform(transform, inPlace=True)
    registration.Execute(to_sitk(fixed), to_sitk(moving))
    centre = np.array(transform.GetCenter())
    linear = np.reshape(transform.GetMatrix(), (3, 3))
    offset = centre + transform.GetTranslation() - linear @ centre
    return LPS @ nib.affines.from_matvec(linear, offset) @ LPS


def _to_transform(fixed: Image, matrix: np.ndarray) -> sitk.AffineTransform:
    """SimpleITK's transform (LPS) with the fixed image's centre as its centre."""
    matrix = LPS @ matrix @ LPS
    centre = nib.affines.apply_affine(LPS @ fixed.affine, (np.array(fixed.data.shape) - 1) / 2)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((nib.affines.apply_affine(matrix, centre) - centre).tolist())
    return transform
