"""A subject's white matter, from a FAST-AID segmentation beside the T1 or from the image itself.

Our own needs no download: bias correction (N4, Tustison et al. 2010), then a mixture of
three Gaussians whose class probabilities at each position are those of the MNI152 template
(Ashburner and Friston 2005). Lesions look grey on a T1-weighted image, so where lesions are known,
or bright on FLAIR in the template's white matter, the voxel is white matter all the same.
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
"""Standard deviation by which the template's tissue maps are blurred: people differ."""
PRIOR_FLOOR = 0.03
"""Probability that any tissue has anywhere in the brain."""
SEARCH_MM = 6.0
"""Largest distance from the template's brain at which a voxel may be brain."""
CLOSING_MM = 4.0
SULCUS_MM = 8.0
"""Gaps in the tissue up to twice as wide, such as sulci and ventricles, belong to the brain."""
MIXTURE_ITERATIONS = 20
DARKEST_PERCENTILE = 3
"""Percentile of intensity in the brain that is taken for fluid to start with."""
LARGEST_SPREAD = 0.55
"""Standard deviation of grey and of white matter, at most, in units of their means' distance."""
MIXTURE_VOXELS = 40_000
"""Voxels, drawn with the seed, from which the mixture is learnt."""
FLAIR_BRIGHT = 1.5
"""Standard deviations above grey matter's FLAIR intensity from which a voxel may be lesion."""
LEAST_BORDER_CONTRAST = 0.5
"""Of a mask that follows the picture (:func:`border_contrast`).

Ten real heads have 0.6 to 1.8; labels 30 mm off, and a bottle, less than 0.
"""
SMALL_PART_ML = 1.0
"""Size below which parts are dropped and holes filled; cerebellum and brainstem may be parts of
their own, and no ventricle is so small."""


def white_matter(
    t1: Image, flair: Image | None = None, lesions: Image | None = None, seed: int = 0
) -> Image:
    """The white-matter mask (uint8) of a T1-weighted image, filled for lesions and small holes.

    A FAST-AID segmentation beside the T1 (``T1_seg.nii.gz``) is used where there is one; it shows
    cerebral white matter only. Otherwise the T1 is segmented here. ``lesions`` are 1 in lesion.
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
    """Return by how much a T1 is brighter just inside a white-matter mask than just outside it.

    In standard deviations of both together: a mask that does not follow the picture has little. 0
    for an empty mask. Both images lie on one grid; what is not above 0 on the T1 is left out.
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
    """Probability (0 to 1, float32) of white matter in a head or a stripped brain.

    ``flair`` and ``lesions`` (1 in lesion) are brought to the T1's grid through their headers.
    Raises :class:`ImageError` where no brain is found.
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
    """The rough tissue without what the template has no brain for, its gaps closed."""
    points = nib.affines.apply_affine(to_template, voxel_centres(rough))
    near = interpolate(_distance_from_brain(), points).reshape(rough.data.shape) > -SEARCH_MM
    tissue = replace(rough, data=((rough.data > 0) & near).astype(np.float32))
    closed = _closed(isotropic(tissue, CLOSING_MM))
    points = voxel_centres(t1)
    brain = (interpolate(closed, points) > 0.5) | (interpolate(tissue, points) > 0.5)
    return brain.reshape(t1.data.shape) & (t1.data > 0)


def _closed(tissue: Image) -> Image:
    """Tissue and the gaps in it: widened, then narrowed, by the same distance."""
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
    """Posterior (n,) of white matter in a Gaussian mixture with spatial priors; lesion is white.

    Expectation maximisation on a share of the voxels outside lesions. White and grey matter share
    one variance, so that a darker voxel is never the more likely white matter; it is bounded by
    their distance, so that intensity and not the template decides between them.
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
    # beyond the mean of white matter nothing is less like it, below that of fluid nothing less so
    ordered = np.clip(values, mean.min(), mean.max())
    log_likelihood = -((ordered - mean[:, None]) ** 2) / (2 * variance[:, None])
    log_joint = log_likelihood - 0.5 * np.log(variance)[:, None] + np.log(priors)
    joint = np.exp(log_joint - log_joint.max(axis=0))
    return joint / joint.sum(axis=0)


def _bright_on_flair(flair: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Voxels brighter than the template's grey matter, where the template has white matter."""
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
    """mm from the template's brain to each voxel outside it, negative."""
    t1 = mni_t1(TEMPLATE_MM)
    distance = ndimage.distance_transform_edt(t1.data == 0) * TEMPLATE_MM
    return replace(t1, data=-distance.astype(np.float32))
