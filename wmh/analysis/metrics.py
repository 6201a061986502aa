"""Measures of one prediction: the MICCAI WMH Segmentation Challenge's five, and further ones.

The five measures are those of the challenge's evaluation (Kuijf et al. 2019, IEEE Transactions on
Medical Imaging 38:2556): Dice, 95th percentile of the Hausdorff distance (mm), absolute volume
difference (percent of the true volume), recall and F1 of individual lesions. Truth holds 0
(background), 1 (lesion) and 2 (other pathology); voxels of label 2 are left out of both masks.
Labels are taken by value, whatever type an array has.

The further measures are of surfaces, single lesions, volumes, probabilities and regions. A measure
that is undefined is NaN: a distance if one of the masks has no surface, a volume difference if
there is no true lesion, a Dice if both masks are empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cc3d
import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from wmh.atlas.regions import REGION_LABELS, REST_LABELS
from wmh.images import ImageError

FIVE_MEASURES = ("dice", "hd95_mm", "avd_percent", "lesion_recall", "lesion_f1")
"""The challenge's measures, in its order."""

LARGEST_FOREGROUND = 1000
"""The challenge's evaluation counts prediction values from 0.5 to 1000 as lesion."""

LESION_SIZES_MM = {"small": (0.0, 3.0), "medium": (3.0, 10.0), "large": (10.0, np.inf)}
"""Size classes of lesions, by the diameter in mm of a ball of the same volume."""

CALIBRATION_BINS = 10
CALIBRATION_FLOOR = 0.01
"""Voxels without lesion below this probability are left out of calibration, because they are nearly
the whole image and would hide all else."""


def lesion_metrics(
    truth: np.ndarray, prediction: np.ndarray, affine: np.ndarray
) -> dict[str, float]:
    """The challenge's five measures of a predicted lesion mask.

    ``truth`` and ``prediction`` are arrays (x, y, z) of one shape, ``affine`` (4, 4) maps voxel
    index to mm. Raises :class:`ImageError` when the shapes differ.
    """
    return five_measures(lesion_pair(truth, prediction, affine))


def five_measures(pair: MaskPair) -> dict[str, float]:
    """The challenge's five measures of a prepared pair of masks."""
    recall, f1 = lesion_detection(pair)
    return {
        "dice": dice(pair),
        "hd95_mm": hausdorff95(pair),
        "avd_percent": volume_difference(pair),
        "lesion_recall": recall,
        "lesion_f1": f1,
    }


def further_lesion_metrics(pair: MaskPair) -> dict[str, float]:
    """Measures of surfaces, single lesions and volumes of a pair of masks; units in the names."""
    in_plane_mm = float(np.linalg.norm(pair.voxel_to_mm, axis=0)[:2].max())  # a voxel's longer edge
    true_ml, predicted_ml = (
        voxels * pair.voxel_mm3 / 1000 for voxels in (pair.true_voxels, pair.predicted_voxels)
    )
    return {
        "surface_dice": surface_dice(pair, in_plane_mm),
        "surface_distance_mm": surface_distance(pair),
        "lesion_dice": lesion_dice(pair),
        **recall_by_size(pair),
        "volume_truth_ml": true_ml,
        "volume_prediction_ml": predicted_ml,
        "volume_bias_ml": predicted_ml - true_ml,
    }


def region_metrics(
    truth: np.ndarray, prediction: np.ndarray, affine: np.ndarray
) -> dict[str, dict[str, float]]:
    """Dice, absolute volume difference (%) and surface distance (mm) of every region.

    Keys are ``"region_01"`` .. ``"region_36"`` and ``"regions_mean"``: the mean over those of the
    34 regions that are in the truth, without the two rest labels. A region that is in the truth but
    not in the prediction counts with Dice 0 and without a surface distance.
    """
    raise_unless_same_shape(truth, prediction)
    box = box_of_both(truth, prediction)
    truth, prediction = truth[box], prediction[box]
    found = {}
    for label in (*REGION_LABELS, *REST_LABELS):
        pair = region_pair(truth, prediction, label, affine)
        found[f"region_{label:02d}"] = {
            "dice": dice(pair),
            "avd_percent": volume_difference(pair),
            "surface_distance_mm": surface_distance(pair),
        }
    regions = pd.DataFrame([found[f"region_{label:02d}"] for label in REGION_LABELS])
    there = np.isin(list(REGION_LABELS), truth)
    return {**found, "regions_mean": regions[there].mean().to_dict()}


def calibration_metrics(truth: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Expected calibration error and Brier score of the predicted probability of lesion.

    The calibration error is the mean absolute difference between the probability and the share of
    lesion in ``CALIBRATION_BINS`` equal bins. Voxels of label 2 are left out, and so are voxels
    without lesion whose probability is below ``CALIBRATION_FLOOR``.
    """
    raise_unless_same_shape(truth, probability)
    lesion, other = (truth >= 0.5) & (truth <= 1.5), truth > 1.5
    counted = (lesion | (probability >= CALIBRATION_FLOOR)) & ~other
    lesion, predicted = lesion[counted], probability[counted].astype(float)
    bins = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    voxels, predicted_sum, lesions = (
        np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)
        for weights in (None, predicted, lesion)
    )
    filled, size = voxels > 0, np.maximum(voxels, 1)
    gaps = np.abs(predicted_sum / size - lesions / size) * voxels
    return {
        "calibration_error": _ratio(gaps[filled].sum(), voxels.sum()),
        "brier": _mean((predicted - lesion) ** 2),
    }


def lesion_pair(truth: np.ndarray, prediction: np.ndarray, affine: np.ndarray) -> MaskPair:
    """True and predicted lesion masks, by the arrays' values, without voxels of label 2.

    Raises :class:`ImageError` when the shapes differ.
    """
    raise_unless_same_shape(truth, prediction)
    box = box_of_both(truth, prediction)
    truth, prediction = np.asfortranarray(truth[box]), np.asfortranarray(prediction[box])
    lesion = (truth >= 0.5) & (truth <= 1.5)
    predicted = (prediction >= 0.5) & (prediction <= LARGEST_FOREGROUND)
    predicted &= ~((truth >= 1.5) & (truth <= 2.5))
    return MaskPair(lesion, predicted, np.asarray(affine, dtype=float)[:3, :3])


def region_pair(
    truth: np.ndarray, prediction: np.ndarray, label: int, affine: np.ndarray
) -> MaskPair:
    """One region of two label images, true and predicted."""
    true, predicted = truth == label, prediction == label
    box = box_of_both(true, predicted)
    return MaskPair(true[box], predicted[box], np.asarray(affine, dtype=float)[:3, :3])


@dataclass(frozen=True)
class MaskPair:
    """A true and a predicted mask (booleans, x, y, z), cut to the box that holds both.

    The box has a margin of one voxel in plane, except where the masks touch the border of the
    image. ``voxel_to_mm`` (3, 3) maps index differences to mm.
    """

    truth: np.ndarray
    prediction: np.ndarray
    voxel_to_mm: np.ndarray

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.voxel_to_mm)))

    @cached_property
    def true_voxels(self) -> int:
        """Number of true voxels."""
        return int(np.count_nonzero(self.truth))

    @cached_property
    def predicted_voxels(self) -> int:
        """Number of predicted voxels."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def overlap(self) -> tuple[np.ndarray, ...]:
        """Indices of the voxels in both masks, an array per axis."""
        return _voxels(self.truth & self.prediction)

    @cached_property
    def true_lesions(self) -> tuple[np.ndarray, int]:
        """Labels of the 26-connected true lesions, and their number."""
        return connected_lesions(self.truth)

    @cached_property
    def predicted_lesions(self) -> tuple[np.ndarray, int]:
        """Labels of the 26-connected predicted lesions, and their number."""
        return connected_lesions(self.prediction)

    @cached_property
    def surface_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances in mm from true surface voxels to the predicted surface, and the reverse.

        Both are empty if a mask has no surface, because it is empty or fills every slice it is in.
        """
        true, predicted = surface(self.truth), surface(self.prediction)
        if not true.any() or not predicted.any():
            return np.empty(0), np.empty(0)
        shared = np.count_nonzero(true & predicted)  # their distance is 0 and need not be searched
        return (
            _distances(true & ~predicted, predicted, self.voxel_to_mm, shared),
            _distances(predicted & ~true, true, self.voxel_to_mm, shared),
        )


def dice(pair: MaskPair) -> float:
    """Twice the shared volume divided by the sum of both volumes; NaN if both masks are empty."""
    return _ratio(2 * len(pair.overlap[0]), pair.true_voxels + pair.predicted_voxels)


def hausdorff95(pair: MaskPair) -> float:
    """95th percentile of the surface distances (mm) in each direction; the larger of the two."""
    if not all(map(len, pair.surface_distances)):
        return float("nan")
    return float(max(np.percentile(distances, 95) for distances in pair.surface_distances))


def volume_difference(pair: MaskPair) -> float:
    """Absolute difference of the volumes in percent of the true one."""
    return 100.0 * _ratio(abs(pair.true_voxels - pair.predicted_voxels), pair.true_voxels)


def lesion_detection(pair: MaskPair) -> tuple[float, float]:
    """Recall and F1 of individual lesions; a lesion with one shared voxel is detected.

    As in the challenge, recall is 1 if there is no true lesion, and precision is 1 if nothing is
    predicted.
    """
    recall = _share_touched(*pair.true_lesions, pair.overlap)
    precision = _share_touched(*pair.predicted_lesions, pair.overlap)
    if precision + recall == 0:
        return recall, 0.0
    return recall, 2 * precision * recall / (precision + recall)


def surface_dice(pair: MaskPair, tolerance_mm: float) -> float:
    """Normalised surface Dice: share of both surfaces within ``tolerance_mm`` of the other.

    As in Nikolov et al. (2021), but with surface voxels instead of surface elements. It is 0 if
    only one of the masks is empty.
    """
    if bool(pair.true_voxels) != bool(pair.predicted_voxels):
        return 0.0
    distances = np.concatenate(pair.surface_distances)
    rounding = 1 + 1e-9  # so that a neighbour at exactly one voxel counts in spite of rounding
    return _mean(distances <= tolerance_mm * rounding)


def surface_distance(pair: MaskPair) -> float:
    """Mean distance (mm) from every surface voxel of either mask to the other surface."""
    return _mean(np.concatenate(pair.surface_distances))


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
    """For each size class, the share of true lesions that the prediction touches."""
    labels, count = pair.true_lesions
    volumes_mm3 = np.bincount(labels[pair.truth], minlength=count + 1)[1:] * pair.voxel_mm3
    diameters_mm = np.cbrt(6 * volumes_mm3 / np.pi)
    found = np.isin(np.arange(1, count + 1), labels[pair.overlap])
    return {
        f"lesion_recall_{size}": _mean(found[(diameters_mm >= smallest) & (diameters_mm < largest)])
        for size, (smallest, largest) in LESION_SIZES_MM.items()
    }


def connected_lesions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels 1..n of the 26-connected lesions of a mask (x, y, z), and n."""
    padded = np.pad(mask, 1)  # cc3d 4.1 finds too few labels in masks one or two voxels thin
    labels, count = cc3d.connected_components(
        padded, connectivity=26, binary_image=True, return_N=True
    )
    return labels[1:-1, 1:-1, 1:-1], count


def surface(mask: np.ndarray) -> np.ndarray:
    """A mask (x, y, z) minus its erosion by a 3 x 3 square in the x-y plane.

    Voxels outside of the array count as foreground.
    """
    padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    eroded = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return mask & ~eroded


def box_of_both(truth: np.ndarray, prediction: np.ndarray) -> tuple[slice, slice, slice]:
    """The box that holds every voxel above 0 of both arrays, one voxel wider in plane."""
    occupied = _voxels((truth > 0) | (prediction > 0))
    box = []
    for along, margin in zip(occupied, (1, 1, 0), strict=True):
        first, last = (along.min(), along.max()) if len(along) else (0, 0)
        box.append(slice(max(int(first) - margin, 0), int(last) + margin + 1))
    return tuple(box)


def raise_unless_same_shape(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Raise :class:`ImageError` for a truth and a prediction of different shapes."""
    if truth.shape != prediction.shape:
        raise ImageError(
            None,
            f"the prediction's shape {prediction.shape} differs from the truth's {truth.shape}",
            "Resample the prediction to the truth's grid with nearest-neighbour interpolation",
        )


def _distances(
    sources: np.ndarray, targets: np.ndarray, voxel_to_mm: np.ndarray, zeros: int
) -> np.ndarray:
    """mm from each source voxel to the nearest target voxel, after ``zeros`` distances of 0."""
    found = np.zeros(zeros + np.count_nonzero(sources))
    if len(found) > zeros:
        tree = KDTree(_points(targets, voxel_to_mm), balanced_tree=False, compact_nodes=False)
        found[zeros:] = tree.query(_points(sources, voxel_to_mm))[0]
    return found


def _points(mask: np.ndarray, voxel_to_mm: np.ndarray) -> np.ndarray:
    """Positions of a mask's voxels in mm, up to a common shift, shape (n, 3)."""
    return np.column_stack(_voxels(mask)) @ voxel_to_mm.T


def _share_touched(lesions: np.ndarray, count: int, overlap: tuple[np.ndarray, ...]) -> float:
    """Share of ``count`` labelled lesions that hold a voxel of ``overlap``; 1 if there are none."""
    return len(np.unique(lesions[overlap])) / count if count else 1.0


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _voxels(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of a mask's voxels, one array per axis; much faster than ``numpy.nonzero``."""
    return np.unravel_index(np.flatnonzero(mask.ravel(order="F")), mask.shape, order="F")
