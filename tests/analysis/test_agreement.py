"""Agreement by hand, against pingouin, and on burdens and volumes whose errors are known."""

import warnings

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.agreement import (
    agreement,
    agreement_summary,
    bland_altman,
    icc_agreement,
    icc_within_regions,
    profile_correlation,
    regional_icc,
    volume_agreement,
)
from wmh.analysis.burden import error_parts, paired_profiles, predicted_sources, profiles
from wmh.analysis.statistics import FLAIR, T1
from wmh.figures.printed import agreement_table, volume_table

RNG = np.random.default_rng(0)
NAMES = {"joint": "Joint model", "separate": "Separate models"}


def test_icc_by_hand():
    # Shrout and Fleiss's way: n = 3, k = 2; MSR = 8, MSC = 1.5, MSE = 0
    first, second = np.array([1.0, 3, 5]), np.array([2.0, 4, 6])
    assert icc_agreement(first, second)[0] == pytest.approx(8 / (8 + 2 * 1.5 / 3))


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
    assert ours[0] == pytest.approx(row["ICC"], abs=1e-6)
    interval = row[next(name for name in theirs.columns if name.startswith("CI95"))]
    assert list(ours[1:]) == pytest.approx(list(interval), abs=0.0051)


@pytest.mark.filterwarnings("error")
def test_icc_has_no_interval_where_hardly_a_degree_of_freedom_is_left():
    truth, found = np.array([0.0, 0.3683, 0.5057]), np.array([1.6697, 1.4686, 1.26])
    value, *limits = icc_agreement(truth, found)
    assert value == pytest.approx(-0.0728, abs=1e-4)
    assert np.isnan(limits).all()


def test_icc_of_perfect_and_of_no_data():
    assert [*icc_agreement(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]))] == [1, 1, 1]
    assert np.isnan(icc_agreement(np.zeros(5), np.zeros(5))[0])
    assert np.isnan(icc_agreement(np.ones(2), np.ones(2))[0])
    assert [*icc_agreement(np.ones(5), np.full(5, 3.0))] == [0, 0, 0]  # apart, and alike in all


def test_bland_altman_by_hand():
    found = bland_altman(np.array([1.0, 2, 3]), np.array([2.0, 4, 6]))
    assert found[0] == 2
    assert found[2] - found[0] == pytest.approx(1.959964 * 1)


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
                    "repeat": 1,
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
    table = agreement(burden_table({"truth": truth, "joint": joint})).set_index("region")
    assert list(table.index) == [*map(str, range(1, 35)), "all"]
    assert table.loc["7", "bias_ml"] == pytest.approx(0.5)
    assert table.loc["7", "limit_low_ml"] == pytest.approx(0.5)
    assert table.loc["all", "bias_ml"] == pytest.approx(34 * 0.5)
    assert table.loc["7", "icc"] == pytest.approx(icc_agreement(truth[:, 6], joint[:, 6])[0])
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
    expected = icc_agreement(truth[:, 0], found[:, 0])[0]
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


def burden_of(repeats=1, n=12):
    """``separate`` is the truth, ``joint`` has noise."""
    rng = np.random.default_rng(0)
    truth = rng.gamma(1, 2, (n, 36))
    rows = []
    for repeat in range(1, repeats + 1):
        noisy = truth + rng.normal(0, 0.5, truth.shape)
        for source, ml in (("truth", truth), ("separate", truth), ("joint", noisy)):
            for (subject, place), value in np.ndenumerate(ml):
                wrong = value - truth[subject, place]
                row = (
                    f"s{subject}",
                    repeat,
                    source,
                    place + 1,
                    value,
                    wrong,
                    3 * wrong,
                    -2 * wrong,
                )
                rows.append(row)
    columns = ["subject", "repeat", "source", "region", "lesion_ml"]
    columns += ["error_ml", "from_lesions_ml", "from_regions_ml"]
    return pd.DataFrame(rows, columns=columns)


def test_a_source_that_is_the_truth_agrees_wholly():
    summary = agreement_summary(burden_of()).set_index("source")
    assert list(summary.index) == ["separate", "joint"]
    assert summary.loc["separate", ["icc", "profile_correlation"]].tolist() == pytest.approx([1, 1])
    joint = summary.loc["joint"]
    assert 0.8 < joint["ci_low"] < joint["icc"] < joint["ci_high"] < 1
    assert joint["lower_quartile"] < joint["profile_correlation"] < joint["upper_quartile"]


def test_repeats_are_judged_one_by_one_and_not_pooled():
    """Averaging predictions first would make noise vanish and agreement look better."""
    burden = burden_of(repeats=3)
    summary = agreement_summary(burden).set_index("source")
    single = [
        agreement_summary(burden[burden["repeat"] == repeat])
        .set_index("source")
        .loc["joint", "icc"]
        for repeat in (1, 2, 3)
    ]
    assert summary.loc["joint", "icc"] == pytest.approx(np.mean(single))
    agreements = agreement(burden)
    assert set(agreements["repeat"]) == {1, 2, 3}
    totals = agreements[(agreements["region"] == "all") & (agreements["source"] == "joint")]
    assert totals["icc"].nunique() == 3
    shown = agreement_table(summary.reset_index(), agreements, NAMES)
    assert shown.loc["Joint model", "ICC(A,1) of the sum"].count(";") == 2


def test_sessions_of_a_person_count_in_the_agreement_but_are_no_further_people():
    once = burden_of()
    often = pd.concat([once.assign(subject=once["subject"] + f"_ses-{n}") for n in "ab"])
    (n, icc), (n_often, icc_often) = (icc_within_regions(b, "joint") for b in (once, often))
    assert n_often == n == 12
    assert icc_often == pytest.approx(icc, rel=0.01)  # that of 24, but as sure as that of 12
    assert len(profiles(often, "truth")) == 12
    assert len(paired_profiles(often, "joint")[0]) == 24


def test_parts_of_errors_are_summed_over_the_34_regions():
    burden = burden_of()
    parts = error_parts(burden)
    joint = burden[(burden["source"] == "joint") & (burden["region"] <= 34)]
    error = joint.groupby("subject")["error_ml"].apply(lambda ml: ml.abs().sum()).mean()
    assert parts.loc["joint"].tolist() == pytest.approx([error, 3 * error, 2 * error, 0.6])
    assert parts.loc["separate", "error_ml"] == 0
    assert np.isnan(parts.loc["separate", "share_from_lesions"])
    assert predicted_sources(burden) == ["separate", "joint"]


def test_of_the_truth_alone_there_is_nothing_to_agree():
    alone = burden_of()[lambda table: table["source"] == "truth"]
    agreements, summary = agreement(alone), agreement_summary(alone)
    assert list(agreements.columns) == list(agreement(burden_of(n=3)).columns)
    assert len(agreement_table(summary, agreements, NAMES)) == len(error_parts(alone)) == 0


def rows(configuration, metric, values, repeat=1):
    return pd.DataFrame(
        {
            "subject": [f"s{i}" for i in range(len(values))],
            "model": configuration.model,
            "inputs_given": configuration.given,
            "structure": "lesions",
            "metric": metric,
            "value": values,
            "repeat": repeat,
        }
    )


def test_volumes_that_are_all_alike_have_no_rank_correlation():
    parts = [rows(FLAIR, "volume_truth_ml", [1.0, 4.0, 9.0])]
    parts += [rows(FLAIR, "volume_prediction_ml", [0.0, 0.0, 0.0])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert volume_agreement(pd.concat(parts), [FLAIR])["rho"].isna().all()


def test_volumes_of_several_trainings_agree_no_better_than_one():
    """One training finds 3 ml too much and another as much too little; their mean is perfect."""
    true = np.array([1.0, 4.0, 9.0, 20.0, 2.0])
    wrong = np.array([3.0, -3.0, 3.0, -3.0, 3.0])
    tables = [
        rows(FLAIR, f"volume_{side}_ml", values, repeat)
        for repeat, sign in ((1, 1), (2, -1))
        for side, values in (("truth", true), ("prediction", true + sign * wrong))
    ]
    table = volume_agreement(pd.concat(tables), [FLAIR])
    singles = [icc_agreement(true, true + sign * wrong) for sign in (1, -1)]
    assert table[["icc", "ci_low", "ci_high"]].loc[0].tolist() == pytest.approx(
        np.mean(singles, axis=0)
    )
    limits = [bland_altman(true, true + sign * wrong) for sign in (1, -1)]
    found = table[["bias_ml", "limit_low_ml", "limit_high_ml"]].loc[0]
    assert found.tolist() == pytest.approx(np.mean(limits, axis=0))


def test_a_constant_bias_and_a_perfect_volume():
    true = np.array([1.0, 4.0, 9.0, 20.0, 2.0])
    parts = [rows(c, "volume_truth_ml", true) for c in (FLAIR, T1)]
    parts += [rows(FLAIR, "volume_prediction_ml", true), rows(T1, "volume_prediction_ml", true + 3)]
    table = volume_agreement(pd.concat(parts), [FLAIR, T1]).set_index("model")
    assert table["rho"].tolist() == pytest.approx([1, 1])
    assert table["bias_ml"].tolist() == pytest.approx([0, 3])
    assert table.loc["flair", "icc"] == pytest.approx(1)
    assert 0.8 < table.loc["t1", "icc"] < 1
    assert table.loc["t1", "limit_high_ml"] == pytest.approx(3)
    assert (table["mean_truth_ml"] == 7.2).all()
    shown = volume_table(table.reset_index())
    assert shown.loc["T1", "bias [limits of agreement], ml"] == "+3.0 [+3.0, +3.0]"
