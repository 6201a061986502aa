"""The measures of the MICCAI WMH Segmentation Challenge, and the Dice of regions.

The five measures are those of the challenge's evaluation (Kuijf et al. 2019, IEEE Transactions on
Medical Imaging 38:2556): Dice, 95th percentile of the Hausdorff distance (mm), absolute volume
difference (percent of the true volume), recall and F1 of individual lesions. Truth holds 0
(background), 1 (lesion) and 2 (other pathology); voxels of label 2 are left out of both masks.
Labels are taken by value, whatever type an array has.

What a measure cannot say is NaN: a distance when one of the masks has no surface, a volume
difference when there is no true lesion, a Dice when both masks are empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cc3d
import numpy as np
from scipy.spatial import KDTree

from wmh.images import ImageError

FIVE_MEASURES = ("dice", "hd95_mm", "avd_percent", "lesion_recall", "lesion_f1")
"""The challenge's measures, in its order."""

REGION_COUNT = 36
"""34 refined white-matter regions and the two rest labels."""

LARGEST_FOREGROUND = 1000
"""The challenge's evaluation takes prediction values from 0.5 to 1000 as lesion."""


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


def lesion_pair(truth: np.ndarray, prediction: np.ndarray, affine: np.ndarray) -> MaskPair:
    """True and predicted lesions, read by value, with label 2 left out of both.

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
    """A true and a predicted mask (booleans, x, y, z) cut to the box that holds both.

    The box keeps one voxel of background around the masks in plane, except where they touch the
    border of the image. ``voxel_to_mm`` (3, 3) turns index differences into mm.
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
        """Indices of the voxels in both masks, an array an axis."""
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
        """mm from each true surface voxel to the predicted surface, and the other way round."""
        return surface_distances(self.truth, self.prediction, self.voxel_to_mm)


def dice(pair: MaskPair) -> float:
    """Twice the shared volume over the sum of both volumes; NaN when both masks are empty."""
    return _ratio(2 * len(pair.overlap[0]), pair.true_voxels + pair.predicted_voxels)


def hausdorff95(pair: MaskPair) -> float:
    """95th percentile of the distances between the surfaces (mm), the larger of both directions."""
    if not all(map(len, pair.surface_distances)):
        return float("nan")
    return float(max(np.percentile(distances, 95) for distances in pair.surface_distances))


def volume_difference(pair: MaskPair) -> float:
    """Absolute difference of the volumes in percent of the true one."""
    return 100.0 * _ratio(abs(pair.true_voxels - pair.predicted_voxels), pair.true_voxels)


def lesion_detection(pair: MaskPair) -> tuple[float, float]:
    """Recall and F1 of individual lesions; one shared voxel makes a detection.

    As in the challenge, recall is 1 when there is no true lesion and precision is 1 when nothing is
    predicted.
    """
    recall = _share_touched(*pair.true_lesions, pair.overlap)
    precision = _share_touched(*pair.predicted_lesions, pair.overlap)
    if precision + recall == 0:
        return recall, 0.0
    return recall, 2 * precision * recall / (precision + recall)


def region_dice(truth: np.ndarray, prediction: np.ndarray) -> dict[int, float]:
    """Dice of each region label 1..36 of two label images (x, y, z).

    NaN for a region that neither image holds. Raises :class:`ImageError` when the shapes differ.
    """
    raise_unless_same_shape(truth, prediction)
    labels = range(1, REGION_COUNT + 1)
    true_voxels, predicted_voxels, shared_voxels = (
        np.bincount(image.ravel(order="K"), minlength=REGION_COUNT + 1)
        for image in (truth, prediction, np.where(truth == prediction, truth, 0))
    )
    return {
        label: _ratio(2 * shared_voxels[label], true_voxels[label] + predicted_voxels[label])
        for label in labels
    }


def connected_lesions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels 1..n of the 26-connected lesions of a mask (x, y, z), and n."""
    padded = np.pad(mask, 1)  # cc3d 4.1 fails on masks one or two voxels thin: too few labels
    labels, count = cc3d.connected_components(
        padded, connectivity=26, binary_image=True, return_N=True
    )
    return labels[1:-1, 1:-1, 1:-1], count


def surface(mask: np.ndarray) -> np.ndarray:
    """A mask (x, y, z) minus its erosion by a 3 x 3 square in the x-y plane.

    What lies outside the array counts as foreground.
    """
    padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    eroded = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return mask & ~eroded


def surface_distances(
    first: np.ndarray, second: np.ndarray, voxel_to_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """mm from each surface voxel of one mask to the nearest of the other, in both directions.

    ``voxel_to_mm`` (3, 3) turns index differences into mm. Both are empty when a mask has no
    surface, because it is empty or because it fills every slice it lies in.
    """
    first, second = surface(first), surface(second)
    if not first.any() or not second.any():
        return np.empty(0), np.empty(0)
    shared = np.count_nonzero(first & second)  # their distance is 0, no need to search for it
    return (
        _distances(first & ~second, second, voxel_to_mm, shared),
        _distances(second & ~first, first, voxel_to_mm, shared),
    )


def raise_unless_same_shape(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Raise :class:`ImageError` for a truth and a prediction of different shapes."""
    if truth.shape != prediction.shape:
        raise ImageError(
            None,
            f"the prediction's shape {prediction.shape} is not the truth's {truth.shape}",
            "Bring the prediction to the grid of the truth first, with nearest neighbours",
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
    """Positions of a mask's voxels in mm, up to a shift that all share, shape (n, 3)."""
    return np.column_stack(_voxels(mask)) @ voxel_to_mm.T


def _share_touched(lesions: np.ndarray, count: int, overlap: tuple[np.ndarray, ...]) -> float:
    """Share of ``count`` labelled lesions that hold a voxel of ``overlap``; 1 if there are none."""
    return len(np.unique(lesions[overlap])) / count if count else 1.0


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def box_of_both(truth: np.ndarray, prediction: np.ndarray) -> tuple[slice, slice, slice]:
    """The box that holds every voxel above 0 of both arrays, one voxel wider in plane."""
    occupied = _voxels((truth > 0) | (prediction > 0))
    box = []
    for along, margin in zip(occupied, (1, 1, 0), strict=True):
        first, last = (along.min(), along.max()) if len(along) else (0, 0)
        box.append(slice(max(int(first) - margin, 0), int(last) + margin + 1))
    return tuple(box)


def _voxels(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of a mask's voxels, an array an axis; many times faster than ``numpy.nonzero``."""
    return np.unravel_index(np.flatnonzero(mask.ravel(order="F")), mask.shape, order="F")
