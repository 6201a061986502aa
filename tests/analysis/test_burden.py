"""Burden counted by hand, its error taken apart, and agreement against pingouin."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmh.analysis.burden import (
    agreement,
    bland_altman,
    error_sources,
    icc_agreement,
    paired_profiles,
    profile_correlation,
    regional_burden,
    regional_icc,
)
from wmh.images import ImageError

RNG = np.random.default_rng(0)


def test_burden_by_hand():
    regions = np.array([1, 1, 1, 1, 20, 20, 36, 0, 0]).reshape(9, 1, 1).astype(np.uint8)
    lesions = np.array([1, 1, 0, 2, 1, 0, 0, 1, 0]).reshape(9, 1, 1)
    table = regional_burden(lesions, regions, voxel_ml=0.5).set_index("region")
    assert len(table) == 36
    assert table.loc[1, ["lesion_ml", "region_ml", "percent_of_region"]].tolist() == [1.0, 2.0, 50]
    assert table.loc[20, ["lesion_ml", "percent_of_region"]].tolist() == [0.5, 50]
    assert table.loc[1, "share_of_lesions"] == 2 / 4  # one lesion voxel lies outside all regions
    assert table.loc[36, ["lesion_ml", "percent_of_region"]].tolist() == [0, 0]
    assert np.isnan(table.loc[2, "percent_of_region"])
    assert (table.loc[1, "side"], table.loc[20, "side"]) == ("left", "right")


def test_no_lesion_has_no_shares():
    regions = np.ones((2, 2, 1), dtype=np.uint8)
    table = regional_burden(np.zeros((2, 2, 1)), regions, 1.0)
    assert table["lesion_ml"].sum() == 0
    assert table["share_of_lesions"].isna().all()


def test_shapes_must_agree():
    with pytest.raises(ImageError):
        regional_burden(np.zeros((2, 2, 1)), np.zeros((2, 2, 2), dtype=np.uint8), 1.0)


@given(st.integers(0, 10_000))
def test_parts_of_the_error_add_up(seed):
    rng = np.random.default_rng(seed)
    true_lesions, lesions = rng.integers(0, 2, (2, 4, 4, 3))
    true_regions, regions = rng.integers(0, 37, (2, 4, 4, 3)).astype(np.uint8)
    parts = error_sources(true_lesions, true_regions, lesions, regions, 0.1)
    burden = [
        regional_burden(a, b, 0.1)["lesion_ml"]
        for a, b in ((lesions, regions), (true_lesions, true_regions))
    ]
    assert parts["error_ml"].to_numpy() == pytest.approx((burden[0] - burden[1]).to_numpy())
    together = parts["from_lesions_ml"] + parts["from_regions_ml"]
    assert together.to_numpy() == pytest.approx(parts["error_ml"].to_numpy())


def test_an_error_on_one_side_is_blamed_on_that_side():
    true_lesions, lesions = RNG.integers(0, 2, (2, 4, 4, 3))
    true_regions, regions = RNG.integers(1, 37, (2, 4, 4, 3)).astype(np.uint8)
    wrong_lesions = error_sources(true_lesions, true_regions, lesions, true_regions, 1.0)
    assert (wrong_lesions["from_regions_ml"] == 0).all()
    assert wrong_lesions["error_ml"].abs().sum() > 0
    wrong_regions = error_sources(true_lesions, true_regions, true_lesions, regions, 1.0)
    assert (wrong_regions["from_lesions_ml"] == 0).all()
    assert wrong_regions["error_ml"].sum() == 0  # every lesion is in some region


def test_icc_by_hand():
    # Shrout and Fleiss's way: n = 3, k = 2; MSR = 8, MSC = 1.5, MSE = 0
    first, second = np.array([1.0, 3, 5]), np.array([2.0, 4, 6])
    assert icc_agreement(first, second).value == pytest.approx(8 / (8 + 2 * 1.5 / 3))


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # pingouin's own way with pandas
def test_icc_equals_pingouins():
    pingouin = pytest.importorskip("pingouin")
    truth = RNG.gamma(1, 3, 25)
    found = 0.7 * truth + RNG.normal(0.5, 1.0, 25)
    long = pd.DataFrame(
        {"subject": [*range(25)] * 2, "rater": ["a"] * 25 + ["b"] * 25, "ml": [*truth, *found]}
    )
    theirs = pingouin.intraclass_corr(long, "subject", "rater", "ml")
    row = theirs[theirs["Type"].isin(["ICC2", "ICC(A,1)"])].iloc[0]
    ours = icc_agreement(truth, found)
    assert ours.value == pytest.approx(row["ICC"], abs=1e-6)
    interval = row[next(name for name in theirs.columns if name.startswith("CI95"))]
    assert [ours.low, ours.high] == pytest.approx(list(interval), abs=0.0051)


@pytest.mark.filterwarnings("error")
def test_icc_has_no_interval_where_hardly_a_degree_of_freedom_is_left():
    truth, found = np.array([0.0, 0.3683, 0.5057]), np.array([1.6697, 1.4686, 1.26])
    value, *limits = icc_agreement(truth, found)
    assert value == pytest.approx(-0.0728, abs=1e-4)
    assert np.isnan(limits).all()


def test_icc_of_perfect_and_of_no_data():
    assert [*icc_agreement(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]))] == [1, 1, 1]
    assert np.isnan(icc_agreement(np.zeros(5), np.zeros(5)).value)
    assert np.isnan(icc_agreement(np.ones(2), np.ones(2)).value)
    assert [*icc_agreement(np.ones(5), np.full(5, 3.0))] == [0, 0, 0]  # apart, and alike in all


def test_bland_altman_by_hand():
    found = bland_altman(np.array([1.0, 2, 3]), np.array([2.0, 4, 6]))
    assert found.value == 2
    assert found.high - found.value == pytest.approx(1.959964 * 1)


def burden_table(sources):
    """A burden table from ml by source, arrays (subjects, regions 1..n)."""
    tables = []
    for source, ml in sources.items():
        subjects, regions = np.indices(ml.shape)
        tables.append(
            pd.DataFrame(
                {
                    "subject": subjects.ravel(),
                    "scanner": "a",
                    "source": source,
                    "region": regions.ravel() + 1,
                    "lesion_ml": ml.ravel(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_agreement_by_region_and_in_all():
    truth = RNG.gamma(1, 2, (12, 36))
    joint = truth + 0.5
    table = agreement(burden_table({"truth": truth, "joint": joint}), "joint").set_index("region")
    assert list(table.index) == [*map(str, range(1, 35)), "all"]
    assert table.loc["7", "bias_ml"] == pytest.approx(0.5)
    assert table.loc["7", "limit_low_ml"] == pytest.approx(0.5)
    assert table.loc["all", "bias_ml"] == pytest.approx(34 * 0.5)
    assert table.loc["7", "icc"] == pytest.approx(icc_agreement(truth[:, 6], joint[:, 6]).value)
    assert table.loc["7", "n"] == 12


def test_profiles_pair_subjects_and_leave_out_the_rest_labels():
    truth = RNG.gamma(1, 2, (5, 36))
    burden = burden_table({"truth": truth, "joint": truth[:3]})
    true, found = paired_profiles(burden, "joint")
    assert true.shape == found.shape == (3, 34)
    assert profile_correlation(burden, "joint").tolist() == pytest.approx([1, 1, 1])


def test_profile_correlation_sees_the_order_of_regions():
    truth = np.vstack([np.arange(36.0), np.arange(36.0), np.zeros(36)])
    joint = np.vstack([np.arange(36.0) ** 2, np.arange(36.0)[::-1], np.arange(36.0)])
    found = profile_correlation(burden_table({"truth": truth, "joint": joint}), "joint")
    assert found.tolist() == pytest.approx([1, -1, np.nan], nan_ok=True)


def test_of_one_region_the_regional_icc_is_its_own():
    truth, found = RNG.gamma(1, 2, (2, 9, 1))
    expected = icc_agreement(truth[:, 0], found[:, 0]).value
    assert regional_icc(truth, found) == pytest.approx(expected)


def test_differences_between_regions_are_no_agreement():
    level = np.arange(34) * 10.0  # regions differ much, and both sides know
    truth, found = RNG.normal(0, 1, (2, 60, 34)) + level
    assert regional_icc(truth, found) == pytest.approx(0, abs=0.1)


def test_regions_without_lesion_change_nothing():
    truth, found = RNG.gamma(1, 2, (2, 9, 3))
    nothing = np.zeros((9, 5))
    wider = [np.hstack([side, nothing]) for side in (truth, found)]
    assert regional_icc(*wider) == pytest.approx(regional_icc(truth, found))
    assert np.isnan(regional_icc(nothing, nothing))


@pytest.mark.filterwarnings("error")
def test_one_subject_has_no_agreement():
    assert np.isnan([*icc_agreement(np.array([1.0]), np.array([2.0]))]).all()
