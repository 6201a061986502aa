"""A subject's white matter, from a FAST-AID segmentation beside the T1 or from the T1 itself.

Our own segmentation needs no download. It is a bias correction (N4, Tustison et al. 2010) followed
by a mixture of three Gaussians, with the MNI152 template's tissue probabilities at each position as
prior (Ashburner and Friston 2005). Lesions look grey on a T1-weighted image. Therefore known lesion
voxels, and voxels that are bright on FLAIR in the template's white matter, are set to white matter.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from wmh.atlas.brain import align_template, rough_brain
from wmh.atlas.fast_aid import read_white_matter, segmentation_beside
from wmh.atlas.grids import (
    bounding_box,
    cut,
    from_sitk,
    interpolate,
    isotropic,
    one_thread,
    to_sitk,
    voxel_centres,
)
from wmh.atlas.regions import (
    WHITE_MATTER_THRESHOLD,
    mni_grey_matter,
    mni_t1,
    mni_white_matter,
)
from wmh.images import Image, ImageError, resample_to

TEMPLATE_MM = 2
BIAS_MM = 6.0
BIAS_ITERATIONS = (15, 15, 10)
PRIOR_BLUR_MM = 2.0
"""Standard deviation by which the template's tissue maps are blurred, because people differ."""
PRIOR_FLOOR = 0.03
"""Smallest prior probability of each tissue anywhere in the brain."""
SEARCH_MM = 6.0
"""Largest distance from the template's brain at which a voxel may be brain."""
CLOSING_MM = 4.0
SULCUS_MM = 8.0
"""Gaps in the tissue of up to twice this width, such as sulci and ventricles, count as brain."""
MIXTURE_ITERATIONS = 20
DARKEST_PERCENTILE = 3
"""Percentile of intensities in the brain that is the first guess for fluid."""
LARGEST_SPREAD = 0.55
"""Largest standard deviation of grey and of white matter, relative to the distance of their means.
"""
MIXTURE_VOXELS = 40_000
"""Number of voxels, drawn with the seed, to which the mixture is fitted."""
FLAIR_BRIGHT = 1.5
"""A voxel may be lesion if it is so many standard deviations above grey matter on FLAIR."""
LEAST_BORDER_CONTRAST = 0.5
"""Least :func:`border_contrast` of a mask that follows the image.

Ten real heads have 0.6 to 1.8. Labels shifted by 30 mm, and a bottle, have less than 0.
"""
SMALL_PART_ML = 1.0
"""Smaller parts are removed and smaller holes filled. Cerebellum and brainstem, which may be
separate parts, and ventricles are larger."""


def white_matter(
    t1: Image, flair: Image | None = None, lesions: Image | None = None, seed: int = 0
) -> Image:
    """The white-matter mask (uint8) of a T1-weighted image, filled for lesions and small holes.

    A FAST-AID segmentation beside the T1 (``T1_seg.nii.gz``) is used if there is one; it has only
    cerebral white matter. Otherwise the T1 is segmented here. ``lesions`` are 1 in lesion.
    """
    beside = segmentation_beside(t1.path)
    if beside is not None:
        mask = read_white_matter(beside, t1).data > 0
    else:
        mask = white_matter_probability(t1, flair, lesions, seed).data > 0.5
        box = bounding_box(mask)
        mask[box] &= ~_small_parts(mask[box], t1.voxel_ml)
    if lesions is not None:
        mask |= resample_to(lesions, t1, order=0).data == 1
    box = bounding_box(mask, 1)
    mask[box] |= _small_parts(~mask[box], t1.voxel_ml)
    return replace(t1, data=mask.astype(np.uint8))


def border_contrast(t1: Image, white: Image) -> float:
    """How much brighter a T1 is just inside a white-matter mask than just outside of it.

    The unit is the pooled standard deviation. A mask that does not follow the image has a low
    contrast; an empty mask has 0. Both images have one grid; outside, T1 voxels at 0 are left out.
    """
    box = bounding_box(white.data > 0, 2)
    mask, values = white.data[box] > 0, t1.data[box]
    inside = values[mask & ~ndimage.binary_erosion(mask)]
    outside = values[ndimage.binary_dilation(mask) & ~mask & (values > 0)]
    if not len(inside) or not len(outside):
        return 0.0
    spread = np.sqrt((inside.var() + outside.var()) / 2)
    return float((inside.mean() - outside.mean()) / spread) if spread > 0 else 0.0


def white_matter_probability(
    t1: Image, flair: Image | None = None, lesions: Image | None = None, seed: int = 0
) -> Image:
    """Probability (0 to 1, float32) of white matter in a head, or a brain without skull.

    ``flair`` and ``lesions`` (1 in lesion) are resampled to the T1's grid through their headers.
    Raises :class:`ImageError` if no brain is found.
    """
    rough = rough_brain(t1)
    to_head = align_template(rough, seed)
    brain = _brain(t1, rough, np.linalg.inv(to_head))
    if not brain.any():
        raise ImageError(t1.path, "no brain was found", "Check that this is a T1-weighted head")
    box = bounding_box(brain)
    part, inside = cut(t1, box), brain[box]
    points = voxel_centres(part, inside)
    priors = _priors(nib.affines.apply_affine(np.linalg.inv(to_head), points))
    values = part.data[inside] * np.exp(-interpolate(_log_bias(part, inside), points))

    lesion = np.zeros(len(values), dtype=bool)
    if lesions is not None:
        lesion |= resample_to(lesions, t1, order=0).data[box][inside] == 1
    if flair is not None:
        lesion |= _bright_on_flair(resample_to(flair, t1).data[box][inside], priors)
    white = np.zeros(t1.data.shape, dtype=np.float32)
    white[box][inside] = _mixture(values, priors, lesion, np.random.default_rng(seed))
    return replace(t1, data=white)


def _brain(t1: Image, rough: Image, to_template: np.ndarray) -> np.ndarray:
    """Brain mask (bool): the rough tissue near the template's brain, with its gaps closed."""
    points = nib.affines.apply_affine(to_template, voxel_centres(rough))
    near = interpolate(_distance_from_brain(), points).reshape(rough.data.shape) > -SEARCH_MM
    tissue = replace(rough, data=((rough.data > 0) & near).astype(np.float32))
    closed = _closed(isotropic(tissue, CLOSING_MM))
    points = voxel_centres(t1)
    brain = (interpolate(closed, points) > 0.5) | (interpolate(tissue, points) > 0.5)
    return brain.reshape(t1.data.shape) & (t1.data > 0)


def _closed(tissue: Image) -> Image:
    """Tissue with its gaps: widened, then narrowed, by the same distance."""
    margin, spacing = int(SULCUS_MM / CLOSING_MM) + 1, CLOSING_MM
    padded = np.pad(tissue.data > 0.5, margin)
    widened = ndimage.distance_transform_edt(~padded) * spacing <= SULCUS_MM
    closed = ndimage.distance_transform_edt(widened) * spacing > SULCUS_MM
    inner = (slice(margin, -margin),) * 3
    return replace(tissue, data=closed[inner].astype(np.float32))


@one_thread()
def _log_bias(part: Image, inside: np.ndarray) -> Image:
    """Logarithm of the smooth intensity bias, by N4 on coarse voxels."""
    coarse = isotropic(part, BIAS_MM)
    mask = isotropic(replace(part, data=inside.astype(np.float32)), BIAS_MM).data > 0.5
    volume = to_sitk(replace(coarse, data=np.maximum(coarse.data, 1e-3)))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(BIAS_ITERATIONS)
    n4.Execute(volume, sitk.Cast(to_sitk(replace(coarse, data=mask)), sitk.sitkUInt8))
    return from_sitk(n4.GetLogBiasFieldAsImage(volume))


def _priors(template_points: np.ndarray) -> np.ndarray:
    """Probabilities (3, n) of white matter, grey matter and fluid at points of the template."""
    white, grey = (interpolate(image, template_points) for image in _blurred_tissue())
    fluid = np.maximum(1 - white - grey, 0)
    priors = np.stack([white, grey, fluid]) + PRIOR_FLOOR
    return priors / priors.sum(axis=0)


def _mixture(
    values: np.ndarray, priors: np.ndarray, lesion: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Posterior (n,) of white matter in a Gaussian mixture with spatial priors; 1 in lesions.

    It is fitted by expectation maximisation on some voxels outside lesions. White and grey matter
    have the same variance, so that a darker voxel is never more likely to be white matter. The
    variance is bounded by the distance of their means, so that intensity and not the template
    decides between them.
    """
    pick = np.flatnonzero(~lesion)
    pick = generator.choice(pick, min(MIXTURE_VOXELS, len(pick)), replace=False)
    sample, prior = values[pick], priors[:, pick]
    mean = np.array(
        [
            np.median(sample[prior[0] > 0.8]),
            np.median(sample[prior[1] > 0.7]),
            np.percentile(sample, DARKEST_PERCENTILE),
        ]
    )
    variance = np.full(3, (mean[0] - mean[2]) ** 2 / 36)
    for _ in range(MIXTURE_ITERATIONS):
        posterior = _posterior(sample, prior, mean, variance)
        weight = posterior.sum(axis=1)
        mean = posterior @ sample / weight
        variance = (posterior * (sample - mean[:, None]) ** 2).sum(axis=1) / weight
        pooled = np.average(variance[:2], weights=weight[:2])
        variance[:2] = min(pooled, (LARGEST_SPREAD * (mean[0] - mean[1])) ** 2)
    return np.where(lesion, 1.0, _posterior(values, priors, mean, variance)[0])


def _posterior(
    values: np.ndarray, priors: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    # values above white matter's mean count as this mean, values below fluid's mean as that one
    ordered = np.clip(values, mean.min(), mean.max())
    log_likelihood = -((ordered - mean[:, None]) ** 2) / (2 * variance[:, None])
    log_joint = log_likelihood - 0.5 * np.log(variance)[:, None] + np.log(priors)
    joint = np.exp(log_joint - log_joint.max(axis=0))
    return joint / joint.sum(axis=0)


def _bright_on_flair(flair: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Voxels that are brighter than grey matter and lie in the template's white matter."""
    grey = flair[priors[1] > 0.5]
    middle = np.median(grey)
    spread = 1.4826 * np.median(np.abs(grey - middle))
    return (flair > middle + FLAIR_BRIGHT * spread) & (priors[0] > WHITE_MATTER_THRESHOLD)


def _small_parts(mask: np.ndarray, voxel_ml: float) -> np.ndarray:
    """The connected parts of a mask that are smaller than 1 ml."""
    parts, _ = ndimage.label(mask)
    small = np.bincount(parts.ravel()) * voxel_ml < SMALL_PART_ML
    small[0] = False
    return small[parts]


@cache
def _blurred_tissue() -> tuple[Image, Image]:
    sigma = PRIOR_BLUR_MM / TEMPLATE_MM
    maps = mni_white_matter(TEMPLATE_MM), mni_grey_matter(TEMPLATE_MM)
    return tuple(replace(m, data=ndimage.gaussian_filter(m.data, sigma)) for m in maps)


@cache
def _distance_from_brain() -> Image:
    """Minus the distance in mm of each voxel from the template's brain; 0 inside."""
    t1 = mni_t1(TEMPLATE_MM)
    distance = ndimage.distance_transform_edt(t1.data == 0) * TEMPLATE_MM
    return replace(t1, data=-distance.astype(np.float32))
