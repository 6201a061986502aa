"""What figures are drawn of: points, pairs, intervals, ticks."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from wmh.figures import parts
from wmh.figures.burden import GROUP_COLOURS, branch_colours, pair_with_truth
from wmh.figures.claims import scale_to_smallest
from wmh.figures.curves import structures_of
from wmh.figures.measures import round_below
from wmh.figures.parts import (
    draw_points,
    smallest_p,
    spread,
    subject_differences,
)
from wmh.figures.pipeline import lesion_ml_by_region
from wmh.figures.qualitative import best_median_worst
from wmh.figures.style import GREY, look_of
from wmh.images import Image


def test_only_tested_pairs_of_shown_configurations_are_drawn():
    columns = ["structure", "metric", "model_a", "inputs_a", "model_b", "inputs_b"]
    rows = [
        ("lesions", "dice", "flair", "FLAIR", "t1", "T1"),
        ("lesions", "volume", "flair", "FLAIR", "t1", "T1"),
        ("regions_mean", "dice", "flair", "FLAIR", "t1", "T1"),
        ("lesions", "dice", "flair", "FLAIR", "flair_t1", "FLAIR"),
    ]
    comparisons = pd.DataFrame(rows, columns=columns)
    shown = parts.tested_pairs(comparisons, [("flair", "FLAIR"), ("t1", "T1")], ["dice"])
    assert shown.index.tolist() == [0]


def test_paired_differences_are_first_minus_second_by_subject():
    values = pd.DataFrame(
        {
            "subject": ["b", "a", "a", "b", "c"],
            "model": ["x", "x", "y", "y", "x"],
            "inputs_given": "FLAIR",
            "dice": [0.9, 0.5, 0.4, 0.6, 0.7],
        }
    )
    pair = {"model_a": "x", "inputs_a": "FLAIR", "model_b": "y", "inputs_b": "FLAIR"}
    np.testing.assert_allclose(subject_differences(values, pd.Series(pair), "dice"), [0.1, 0.3])


def test_every_value_is_a_point_and_the_bar_is_their_mean():
    axes = Figure().subplots()
    draw_points(axes, np.array([0.2, np.nan, 0.4, 0.9]), 3, look_of("flair"), upright=True)
    places, values = axes.collections[0].get_offsets().T
    np.testing.assert_allclose(values, [0.2, 0.4, 0.9])
    assert np.abs(places - 3).max() < 0.34
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.5)


def test_points_of_a_group_never_share_a_place():
    assert len(np.unique(spread(110))) == 110
    assert np.abs(spread(110)).max() < 0.5


@pytest.mark.parametrize(("limit", "tick"), [(3900, 2000), (0.7, 0.5), (1000, 1000), (99, 50)])
def test_ticks_are_round(limit, tick):
    assert round_below(limit) == pytest.approx(tick)


def test_few_pairs_cannot_reach_a_small_p():
    assert smallest_p(5, 1) == 0.0625
    assert smallest_p(3, 30) == 1.0


def test_the_median_of_an_even_number_is_the_upper_one():
    assert best_median_worst(pd.Series({"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2})) == {
        "Best": "b",
        "Median": "c",
        "Worst": "a",
    }


def test_effects_are_scaled_by_the_smallest_that_matters():
    claims = pd.DataFrame(
        {
            "mean_difference": [0.04],
            "ci_low": [-0.01],
            "ci_high": [0.1],
            "smallest_difference": 0.02,
        }
    )
    scaled = scale_to_smallest(claims).iloc[0]
    assert (scaled["low"], scaled["effect"], scaled["high"]) == pytest.approx((-0.5, 2.0, 5.0))


def test_branches_have_the_colour_of_their_group_where_they_are_in_one():
    joined = np.array([[0, 1, 0.1, 2], [2, 3, 0.2, 2], [4, 5, 0.9, 4]])
    first, second = GROUP_COLOURS[:2]
    assert branch_colours(joined, np.array([1, 1, 2, 2])) == {4: first, 5: second, 6: GREY}
    assert set(branch_colours(joined, np.ones(4)).values()) == {GREY}


def test_burden_is_paired_with_the_truth_by_subject_and_region():
    rows = [
        (subject, source, region, factor * (region + number))
        for number, subject in enumerate("ab")
        for source, factor in (("truth", 1.0), ("joint", 2.0))
        for region in range(1, 37)
    ]
    burden = pd.DataFrame(rows, columns=["subject", "source", "region", "lesion_ml"])
    pairs = pair_with_truth(burden, "joint")
    assert len(pairs) == 2 * 34
    np.testing.assert_allclose(pairs["found"], 2 * pairs["true"])


def test_lesion_volume_is_counted_in_its_region():
    lesions = Image(np.array([[[1, 1, 2, 0, 1]]], dtype=np.uint8), np.diag([10.0, 10, 10, 1]))
    regions = Image(np.array([[[3, 3, 3, 3, 36]]], dtype=np.uint8), lesions.affine)
    volumes = lesion_ml_by_region(lesions, regions)
    assert volumes[3] == pytest.approx(2.0)
    assert volumes.sum() == pytest.approx(2.0)


def test_a_joint_model_shows_the_dice_of_both_structures():
    alone = pd.DataFrame({"validation_dice": [0.5]})
    joint = alone.assign(validation_lesions_dice=0.4, validation_regions_dice=0.6)
    assert [column for column, *_ in structures_of(alone)] == ["validation_dice"]
    assert [name for _, name, _ in structures_of(joint)] == ["lesions", "regions"]
