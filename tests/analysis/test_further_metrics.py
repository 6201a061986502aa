"""Measures beyond the five, on cases small enough to count by hand."""

import numpy as np
import pytest

from wmh.analysis.metrics import (
    calibration_metrics,
    further_lesion_metrics,
    lesion_dice,
    lesion_pair,
    recall_by_size,
    region_metrics,
    surface_dice,
    surface_distance,
)
from wmh.atlas.labelling import region_dice

VOXEL = np.diag([1.0, 1.0, 3.0, 1.0])


def empty(shape=(12, 12, 4)):
    return np.zeros(shape, dtype=np.uint8)


def test_surface_dice_counts_neighbours_and_not_those_further_off():
    truth, prediction = empty(), empty()
    truth[2, 2, 0] = truth[8, 8, 0] = 1
    prediction[3, 2, 0] = prediction[8, 10, 0] = 1  # one voxel beside, two voxels beside
    pair = lesion_pair(truth, prediction, VOXEL)
    assert surface_dice(pair, 1.0) == 0.5
    assert surface_dice(pair, 2.0) == 1.0
    assert surface_distance(pair) == 1.5


def test_surface_dice_of_empty_masks():
    lesion = empty()
    lesion[4, 4, 1] = 1
    assert surface_dice(lesion_pair(lesion, empty(), VOXEL), 1.0) == 0
    assert surface_dice(lesion_pair(empty(), lesion, VOXEL), 1.0) == 0
    assert np.isnan(surface_dice(lesion_pair(empty(), empty(), VOXEL), 1.0))


def test_lesion_dice_is_the_mean_over_true_lesions():
    truth, prediction = empty(), empty()
    truth[1:3, 1, 0] = 1  # found: 2 true, 2 + 1 predicted in two lesions, 2 shared
    prediction[1, 1, 0] = 1
    prediction[2, 1, 0] = prediction[3, 1, 0] = 1
    truth[8, 8, 2] = 1  # missed
    prediction[5, 10, 3] = 1  # false, touches nothing
    expected = (2 * 2 / (2 + 3) + 0) / 2
    assert lesion_dice(lesion_pair(truth, prediction, VOXEL)) == pytest.approx(expected)


def test_one_predicted_lesion_over_two_true_ones_counts_for_both():
    truth, prediction = empty(), empty()
    truth[1, 1, 0] = truth[4, 1, 0] = 1
    prediction[1:5, 1, 0] = 1
    assert lesion_dice(lesion_pair(truth, prediction, VOXEL)) == pytest.approx(2 * 1 / (1 + 4))


def test_lesion_dice_without_true_lesions_is_unknown():
    assert np.isnan(lesion_dice(lesion_pair(empty(), empty() + 1, VOXEL)))


def test_recall_by_size():
    truth, prediction = empty((40, 40, 8)), empty((40, 40, 8))
    truth[1, 1, 0] = truth[4, 4, 0] = 1  # 3 mm3: 1.8 mm across
    truth[10:13, 10:13, 0:2] = 1  # 54 mm3: 4.7 mm
    truth[20:30, 20:30, 0:4] = 1  # 1200 mm3: 13.2 mm
    prediction[1, 1, 0] = prediction[25, 25, 1] = 1
    assert recall_by_size(lesion_pair(truth, prediction, VOXEL)) == {
        "lesion_recall_small": 0.5,
        "lesion_recall_medium": 0.0,
        "lesion_recall_large": 1.0,
    }


def test_a_size_class_without_lesions_has_no_recall():
    truth = empty()
    truth[1, 1, 0] = 1
    assert np.isnan(recall_by_size(lesion_pair(truth, truth, VOXEL))["lesion_recall_large"])


def test_volumes_in_ml():
    truth, prediction = empty(), empty()
    truth[:2, :5, 0] = 1
    prediction[:2, :7, 0] = 1
    found = further_lesion_metrics(lesion_pair(truth, prediction, VOXEL))
    assert found["volume_truth_ml"] == pytest.approx(0.030)
    assert found["volume_prediction_ml"] == pytest.approx(0.042)
    assert found["volume_bias_ml"] == pytest.approx(0.012)


def test_a_calibrated_model_has_no_calibration_error():
    probability = np.array([0.25] * 4 + [0.75] * 4).reshape(8, 1, 1)
    truth = np.array([1, 0, 0, 0, 1, 1, 1, 0]).reshape(8, 1, 1)
    found = calibration_metrics(truth, probability)
    assert found["calibration_error"] == pytest.approx(0)
    assert found["brier"] == pytest.approx(0.25 * 0.75)


def test_an_overconfident_model_is_off_by_its_overconfidence():
    probability = np.full((10, 1, 1), 0.95)
    truth = np.array([1] * 6 + [0] * 4).reshape(10, 1, 1)
    assert calibration_metrics(truth, probability)["calibration_error"] == pytest.approx(0.35)


def test_calibration_leaves_out_label_2_and_sure_background():
    truth = np.array([2, 2, 0, 0, 1]).reshape(5, 1, 1)
    probability = np.array([0.9, 0.0, 0.001, 0.4, 0.9]).reshape(5, 1, 1)
    found = calibration_metrics(truth, probability)
    assert found["calibration_error"] == pytest.approx((0.4 + 0.1) / 2)
    assert found["brier"] == pytest.approx((0.4**2 + 0.1**2) / 2)


def test_calibration_of_nothing_is_unknown():
    found = calibration_metrics(empty(), empty().astype(float))
    assert np.isnan(found["calibration_error"])
    assert np.isnan(found["brier"])


def test_region_metrics():
    truth, prediction = empty(), empty()
    truth[1:5, 1:5, 0] = 1
    prediction[1:5, 1:6, 0] = 1
    truth[8:10, 8:10, 2] = 20  # missed altogether
    prediction[0, 0, 3] = 34  # not there
    truth[0, 10, 3] = prediction[0, 10, 3] = 36
    found = region_metrics(truth, prediction, VOXEL)
    assert found["region_01"]["dice"] == pytest.approx(2 * 16 / (16 + 20))
    assert found["region_01"]["avd_percent"] == pytest.approx(25)
    assert found["region_20"]["dice"] == 0
    assert found["region_20"]["avd_percent"] == 100
    assert np.isnan(found["region_20"]["surface_distance_mm"])
    assert found["region_36"] == {"dice": 1, "avd_percent": 0, "surface_distance_mm": 0}
    assert found["region_34"]["dice"] == 0
    mean = found["regions_mean"]  # of regions 1 and 20, the ones of the 34 that are there
    assert mean["dice"] == pytest.approx(found["region_01"]["dice"] / 2)
    assert mean["avd_percent"] == pytest.approx((25 + 100) / 2)
    assert mean["surface_distance_mm"] == found["region_01"]["surface_distance_mm"]


def test_a_truth_without_any_region_has_no_mean():
    prediction = empty()
    prediction[1:5, 1:5, 0] = 1
    found = region_metrics(empty(), prediction, VOXEL)
    assert found["region_01"]["dice"] == 0
    assert all(np.isnan(value) for value in found["regions_mean"].values())


def test_region_metrics_and_region_dice_agree():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 37, (2, 9, 8, 4)).astype(np.uint8)
    found = region_metrics(truth, prediction, VOXEL)
    for label, value in list(enumerate(region_dice(truth, prediction)))[1:]:
        assert found[f"region_{label:02d}"]["dice"] == pytest.approx(value, nan_ok=True)
