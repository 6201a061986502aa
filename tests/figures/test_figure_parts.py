"""What figures are drawn of: points, pairs, intervals, ticks."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from wmh.figures import parts
from wmh.figures.burden import GROUP_COLOURS, branch_colours, pair_with_truth
from wmh.figures.measures import round_below
from wmh.figures.parts import draw_differences, draw_points, root_scale, smallest_p, spread
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
    pair = {"model_a": "x", "inputs_a": "FLAIR", "model_b": "y", "inputs_b": "FLAIR", "n": 2}
    numbers = {"mean_difference": 0.2, "ci_low": 0.1, "ci_high": 0.3, "p_holm": 0.01}
    axes = Figure().subplots()
    draw_differences(axes, pd.DataFrame([pair | numbers]), values, "dice", 0.05)
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 0], [0.1, 0.3])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "X, FLAIR only\n\N{MINUS SIGN} Y, FLAIR only"
    ]


def test_panels_without_a_test_say_so_and_ticks_are_readable():
    axes = Figure().subplots()
    draw_differences(axes, pd.DataFrame({"n": []}), pd.DataFrame(), "dice", 0.05)
    assert axes.get_title(loc="left") + axes.get_title() == "none tested"
    axes.set_ylim(-100, 90)
    root_scale(axes, "y", (1, 4, 10, 20, 40, 80))
    assert axes.get_ylim() == (-100, 90)
    assert axes.get_yticks().tolist() == [-80, -40, -10, 0, 10, 40, 80]


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
