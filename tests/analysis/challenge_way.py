"""The challenge's five measures the way its own script computes them: with SimpleITK.

Written after the published description and script (Kuijf et al. 2019) as an independent check, and
as the yardstick of ``benchmarks/metrics.py``. NaN where the script would stop with an error.
"""

import numpy as np
import SimpleITK as sitk
from scipy.spatial import KDTree
from scipy.spatial.distance import dice


def challenge_metrics(truth, prediction, affine):
    """The measures of two arrays (x, y, z)."""
    return challenge_metrics_of_images(sitk_image(truth, affine), sitk_image(prediction, affine))


def challenge_metrics_of_images(truth, prediction):
    """The measures of two float32 SimpleITK images of one size."""
    prediction.CopyInformation(truth)
    true = sitk.BinaryThreshold(truth, 0.5, 1.5, 1, 0)
    counted = sitk.BinaryThreshold(truth, 1.5, 2.5, 0, 1)
    masked = sitk.Mask(prediction, counted)
    predicted = sitk.BinaryThreshold(masked, 0.5, 1000, 1, 0)
    recall, precision = challenge_share(true, predicted), challenge_share(predicted, true)
    return {
        "dice": challenge_dice(true, predicted),
        "hd95_mm": challenge_hd95(true, predicted),
        "avd_percent": challenge_avd(true, predicted),
        "lesion_recall": recall,
        "lesion_f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def challenge_dice(true, predicted):
    masks = [sitk.GetArrayFromImage(image).ravel() for image in (true, predicted)]
    return 1 - dice(*masks) if any(mask.any() for mask in masks) else np.nan


def challenge_avd(true, predicted):
    volumes = []
    for image in (true, predicted):
        statistics = sitk.StatisticsImageFilter()
        statistics.Execute(image)
        volumes.append(statistics.GetSum())
    return 100 * abs(volumes[0] - volumes[1]) / volumes[0] if volumes[0] else np.nan


def sitk_image(array, affine):
    """The array as float32, with the affine as single-precision spacing and direction, as read."""
    image = sitk.GetImageFromArray(np.asarray(array, dtype=np.float32).T)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(np.float32(size).astype(float).tolist())
    image.SetDirection((to_lps @ affine[:3, :3] / size).ravel().tolist())
    image.SetOrigin((to_lps @ affine[:3, 3]).tolist())
    return image


def challenge_share(lesions, touching):
    components = sitk.ConnectedComponentImageFilter()
    components.FullyConnectedOn()
    labels = components.Execute(lesions)
    touched = sitk.Multiply(labels, sitk.Cast(touching, sitk.sitkUInt32))
    # the script counts distinct values less one: one too few in an image without background
    found, every = (
        np.count_nonzero(np.unique(sitk.GetArrayFromImage(image))) for image in (touched, labels)
    )
    return found / every if every else 1.0


def challenge_hd95(true, predicted):
    points = []
    for image in (true, predicted):
        edge = sitk.Subtract(image, sitk.BinaryErode(image, (1, 1, 0)))
        index = np.argwhere(sitk.GetArrayFromImage(edge))[:, ::-1]
        points.append([true.TransformIndexToPhysicalPoint(i.tolist()) for i in index])
    if not all(points):
        return np.nan
    return max(
        np.percentile(KDTree(to, leafsize=100).query(start)[0], 95)
        for start, to in (points, points[::-1])
    )
