"""Measures beyond the challenge's five: surfaces, single lesions, volumes, probabilities, regions.

All read :class:`wmh.analysis.metrics.MaskPair`; what a measure cannot say is NaN.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from wmh.analysis.metrics import (
    MaskPair,
    box_of_both,
    dice,
    raise_unless_same_shape,
    region_pair,
    volume_difference,
)
from wmh.atlas.regions import REGION_LABELS, REST_LABELS

LESION_SIZES_MM = {"small": (0.0, 3.0), "medium": (3.0, 10.0), "large": (10.0, np.inf)}
"""Size classes of lesions, by the diameter in mm of a ball of the same volume."""

CALIBRATION_BINS = 10
CALIBRATION_FLOOR = 0.01
"""Voxels below this probability that hold no lesion are left out of calibration: they are nearly
all of the image and say nothing."""


def further_lesion_metrics(pair: MaskPair) -> dict[str, float]:
    """Surfaces, single lesions and volumes of a pair of lesion masks; units in the names."""
    true_ml, predicted_ml = (
        voxels * pair.voxel_mm3 / 1000 for voxels in (pair.true_voxels, pair.predicted_voxels)
    )
    return {
        "surface_dice": surface_dice(pair, voxel_in_plane_mm(pair)),
        "surface_distance_mm": surface_distance(pair),
        "lesion_dice": lesion_dice(pair),
        **{f"lesion_recall_{size}": recall for size, recall in recall_by_size(pair).items()},
        "volume_truth_ml": true_ml,
        "volume_prediction_ml": predicted_ml,
        "volume_bias_ml": predicted_ml - true_ml,
    }


def surface_dice(pair: MaskPair, tolerance_mm: float) -> float:
    """Normalised surface Dice: share of both surfaces within ``tolerance_mm`` of the other.

    After Nikolov et al. (2021), with surface voxels in place of surface elements. 0 when only one
    of the masks is empty.
    """
    if bool(pair.true_voxels) != bool(pair.predicted_voxels):
        return 0.0
    distances = np.concatenate(pair.surface_distances)
    rounding = 1 + 1e-9  # a neighbour at exactly one voxel is within one voxel
    return _mean(distances <= tolerance_mm * rounding)


def surface_distance(pair: MaskPair) -> float:
    """Mean distance (mm) from every surface voxel of either mask to the other surface."""
    return _mean(np.concatenate(pair.surface_distances))


def voxel_in_plane_mm(pair: MaskPair) -> float:
    """The longer in-plane edge of a voxel in mm."""
    return float(np.linalg.norm(pair.voxel_to_mm, axis=0)[:2].max())


def lesion_dice(pair: MaskPair) -> float:
    """Mean over true lesions of the Dice with all predicted lesions that touch it; 0 if missed."""
    labels, count = pair.true_lesions
    predicted, predicted_count = pair.predicted_lesions
    if not count:
        return float("nan")
    sizes = np.bincount(labels[pair.truth], minlength=count + 1)
    predicted_sizes = np.bincount(predicted[pair.prediction], minlength=predicted_count + 1)
    shared = np.bincount(labels[pair.overlap], minlength=count + 1)
    touching = np.unique(np.stack([labels[pair.overlap], predicted[pair.overlap]]), axis=1)
    touching_sizes = np.bincount(
        touching[0], weights=predicted_sizes[touching[1]], minlength=count + 1
    )
    return float((2 * shared / np.maximum(sizes + touching_sizes, 1))[1:].mean())


def recall_by_size(pair: MaskPair) -> dict[str, float]:
    """Share of the true lesions of each size class that the prediction touches."""
    labels, count = pair.true_lesions
    volumes_mm3 = np.bincount(labels[pair.truth], minlength=count + 1)[1:] * pair.voxel_mm3
    diameters_mm = np.cbrt(6 * volumes_mm3 / np.pi)
    found = np.isin(np.arange(1, count + 1), labels[pair.overlap])
    return {
        size: _mean(found[(diameters_mm >= smallest) & (diameters_mm < largest)])
        for size, (smallest, largest) in LESION_SIZES_MM.items()
    }


def reliability(truth: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """What share of the voxels of each predicted probability is lesion.

    One row a bin of ``CALIBRATION_BINS`` equal ones: ``voxels``, mean ``predicted`` probability and
    ``observed`` share of lesion. Label 2 is left out, and so are voxels without lesion whose
    probability is below ``CALIBRATION_FLOOR``.
    """
    lesion, predicted = _calibration_voxels(truth, probability)
    bins = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    voxels, predicted_sum, lesions = (
        np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)
        for weights in (None, predicted, lesion)
    )
    filled = np.maximum(voxels, 1)
    table = pd.DataFrame(
        {"voxels": voxels, "predicted": predicted_sum / filled, "observed": lesions / filled}
    )
    return table[table["voxels"] > 0].rename_axis("bin").reset_index()


def calibration_metrics(truth: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Expected calibration error (mean gap of :func:`reliability`) and Brier score."""
    table = reliability(truth, probability)
    lesion, predicted = _calibration_voxels(truth, probability)
    gaps = (table["predicted"] - table["observed"]).abs()
    total = table["voxels"].sum()
    return {
        "calibration_error": float((gaps * table["voxels"]).sum() / total) if total else np.nan,
        "brier": _mean((predicted - lesion) ** 2),
    }


def region_metrics(
    truth: np.ndarray, prediction: np.ndarray, affine: np.ndarray
) -> dict[str, dict[str, float]]:
    """Dice, absolute volume difference (%) and surface distance (mm) of every region.

    Keys are ``"region_01"`` .. ``"region_36"`` and ``"regions_mean"``, the mean over the 34 regions
    that the truth holds, without the two rest labels. A region that the truth holds and the
    prediction does not counts with Dice 0 and without a surface distance.
    """
    raise_unless_same_shape(truth, prediction)
    box = box_of_both(truth, prediction)
    truth, prediction = truth[box], prediction[box]
    found = {
        f"region_{label:02d}": _measures_of_region(region_pair(truth, prediction, label, affine))
        for label in (*REGION_LABELS, *REST_LABELS)
    }
    regions = pd.DataFrame([found[f"region_{label:02d}"] for label in REGION_LABELS])
    there = np.isin(list(REGION_LABELS), truth)
    return {**found, "regions_mean": regions[there].mean().to_dict()}


def _measures_of_region(pair: MaskPair) -> dict[str, float]:
    return {
        "dice": dice(pair),
        "avd_percent": volume_difference(pair),
        "surface_distance_mm": surface_distance(pair),
    }


def _calibration_voxels(
    truth: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lesion (boolean) and predicted probability of the voxels that calibration looks at."""
    raise_unless_same_shape(truth, probability)
    lesion, other = (truth >= 0.5) & (truth <= 1.5), truth > 1.5
    counted = (lesion | (probability >= CALIBRATION_FLOOR)) & ~other
    return lesion[counted], probability[counted].astype(float)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
