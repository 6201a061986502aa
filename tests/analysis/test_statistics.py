"""Statistics against cases worked by hand, other packages, and real published figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wmh.analysis.intervals import resample
from wmh.analysis.statistics import (
    CONCATENATED,
    DROPOUT,
    FLAIR,
    INTERCHANGEABLE,
    PAPER_CONFIGURATIONS,
    T1,
    Comparison,
    Configuration,
    compare,
    friedman,
    holm,
    joint_and_alone,
    means,
    planned_comparisons,
    rank_biserial,
    scanner_of,
    subject_values,
    wilcoxon_p,
)
from wmh.settings import Evaluation

SETTINGS = Evaluation(bootstrap_samples=2000)
JOINT, _, REGIONS = joint_and_alone("interchangeable")


def rows_of(configuration, values, metric="dice", structure="lesions", scanner="a", **more):
    return pd.DataFrame(
        {
            "subject": [f"s{i}" for i in range(len(values))],
            "scanner": scanner,
            "model": configuration.model,
            "inputs_given": configuration.given,
            "structure": structure,
            "metric": metric,
            "value": np.asarray(values, dtype=float),
            "repeat": 1,
            **more,
        }
    )


def table_of(*configurations, n=12, seed=0):
    rng = np.random.default_rng(seed)
    return pd.concat(
        [rows_of(c, rng.uniform(0.4, 0.8, n) + 0.02 * i) for i, c in enumerate(configurations)],
        ignore_index=True,
    )


def test_signed_ranks_by_hand():
    differences = np.array([1.0, -2.0, 3.0, 4.0, 0.0])  # ranks 1 2 3 4 of four; W- = 2, W+ = 8
    assert rank_biserial(differences) == pytest.approx((8 - 2) / 10)
    # 3 of the 16 signings have a sum of negative ranks of at most 2: {}, {1}, {2}
    assert wilcoxon_p(differences[:4]) == pytest.approx(2 * 3 / 16)


def test_one_sided_differences_have_the_largest_effect():
    assert rank_biserial(np.array([0.1, 0.2, 0.3])) == 1
    assert rank_biserial(-np.array([0.1, 0.2, 0.3])) == -1


def test_equal_models_do_not_differ():
    assert wilcoxon_p(np.zeros(8)) == 1
    assert np.isnan(rank_biserial(np.zeros(8)))
    assert np.isnan(wilcoxon_p(np.array([])))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_holm_leaves_out_tests_not_done():
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def test_compare_reports_a_minus_b():
    metrics = table_of(CONCATENATED, FLAIR)
    comparison = Comparison("inputs", "lesions", "dice", CONCATENATED, FLAIR)
    row = compare(metrics, [comparison], SETTINGS, seed=1).iloc[0]
    a, b = (subject_values(metrics, "lesions", "dice", c) for c in (CONCATENATED, FLAIR))
    assert row["n"] == 12
    assert row["mean_difference"] == pytest.approx((a - b).mean())
    assert row["ci_low"] < row["mean_difference"] < row["ci_high"]
    assert row["p_wilcoxon"] == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert row["p_holm"] == row["p_wilcoxon"]
    assert (row["model_a"], row["inputs_b"]) == ("flair_t1", "FLAIR")


def test_correction_runs_within_each_family():
    metrics = table_of(FLAIR, T1, CONCATENATED)
    comparisons = [
        Comparison("one", "lesions", "dice", FLAIR, T1),
        Comparison("one", "lesions", "dice", FLAIR, CONCATENATED),
        Comparison("two", "lesions", "dice", T1, CONCATENATED),
    ]
    table = compare(metrics, comparisons, SETTINGS, seed=0)
    assert table["p_holm"][:2].to_numpy() == pytest.approx(holm(table["p_wilcoxon"][:2]))
    assert table["p_holm"][2] == table["p_wilcoxon"][2]


def test_subjects_without_a_value_are_left_out_of_both_and_counted():
    metrics = pd.concat(
        [rows_of(FLAIR, [1, 2, 3, 4], "hd95_mm"), rows_of(T1, [5, np.nan, 9, 9], "hd95_mm")]
    )
    comparison = Comparison("inputs", "lesions", "hd95_mm", FLAIR, T1)
    row = compare(metrics, [comparison], SETTINGS, seed=0).iloc[0]
    assert (row["n"], row["n_missing"]) == (3, 1)
    assert row["mean_a"] == pytest.approx((1 + 3 + 4) / 3)


def test_a_comparison_that_nobody_measured_has_no_numbers():
    metrics = table_of(FLAIR)
    comparison = Comparison("inputs", "lesions", "dice", FLAIR, T1)
    row = compare(metrics, [comparison], SETTINGS, seed=0).iloc[0]
    assert row["n"] == 0
    assert row[["mean_difference", "ci_low", "p_wilcoxon", "p_holm"]].isna().all()


def test_repeats_are_averaged_within_subjects():
    one = table_of(FLAIR, T1, seed=1).assign(repeat=1)
    two = table_of(FLAIR, T1, seed=2).assign(repeat=2)
    comparison = Comparison("inputs", "lesions", "dice", FLAIR, T1)
    row = compare(pd.concat([one, two]), [comparison], SETTINGS, seed=0).iloc[0]
    apart = [
        compare(table, [comparison], SETTINGS, seed=0)["mean_difference"][0] for table in (one, two)
    ]
    assert row["n"] == 12
    assert row["repeats"] == 2
    assert row["mean_difference"] == pytest.approx(np.mean(apart))
    assert row["repeat_sd"] == pytest.approx(np.std(apart, ddof=1))


def test_a_mean_is_that_of_subjects_and_its_spread_that_of_repeats():
    metrics = pd.concat([rows_of(FLAIR, [1, 2, 3], repeat=1), rows_of(FLAIR, [3, 2, 7], repeat=2)])
    row = means(metrics, SETTINGS, seed=0).iloc[0]
    assert row[["n", "mean", "repeats"]].tolist() == [3, 3.0, 2]
    assert row["sd"] == pytest.approx(np.std([2, 2, 5], ddof=1))
    assert row["repeat_sd"] == pytest.approx(np.std([2, 4], ddof=1))


def test_planned_comparisons_are_those_that_can_be_made():
    blind = Configuration("flair_t1", "FLAIR")
    alone = Configuration("interchangeable", "FLAIR")
    metrics = pd.concat([table_of(FLAIR, T1, blind, alone), rows_of(REGIONS, [0.8, 0.7])])
    metrics = pd.concat([metrics, *(rows_of(c, [0.1], "hd95_mm") for c in (FLAIR, T1))])
    planned = {(c.family, str(c.a), str(c.b), c.metric) for c in planned_comparisons(metrics)}
    assert planned == {
        ("input configurations", "flair (FLAIR)", "t1 (T1)", "dice"),
        ("input configurations", "flair (FLAIR)", "t1 (T1)", "hd95_mm"),
        ("missing modality", "interchangeable (FLAIR)", "flair_t1 (FLAIR)", "dice"),
        ("missing modality", "interchangeable (FLAIR)", "flair (FLAIR)", "dice"),
    }


def test_the_joint_model_is_compared_with_the_lesion_model_of_its_own_inputs():
    metrics = table_of(DROPOUT, INTERCHANGEABLE, JOINT)
    planned = [c for c in planned_comparisons(metrics, DROPOUT.model) if c.family == "joint model"]
    assert [(c.a, c.b) for c in planned] == [(JOINT, DROPOUT)]
    alone = Configuration("multitask", "FLAIR")  # it learned from the FLAIR, and nothing else
    of_flair = planned_comparisons(table_of(FLAIR, DROPOUT, alone), FLAIR.model)
    assert {(c.a, c.b) for c in of_flair} == {(alone, FLAIR)}


def test_modality_dropout_is_tested_where_an_image_is_missing():
    blind, alone = Configuration("flair_t1", "T1"), Configuration("flair_t1_dropout", "T1")
    planned = planned_comparisons(table_of(T1, blind, alone))
    assert {(c.a, c.b) for c in planned} == {(alone, blind), (alone, T1)}


def test_a_whole_study_has_its_three_families():
    missing = [
        Configuration(m, g) for m in ("flair_t1", "interchangeable") for g in ("FLAIR", "T1")
    ]
    everyone = [*PAPER_CONFIGURATIONS, *missing, JOINT]
    metrics = pd.concat(
        [table_of(*everyone).assign(metric=m) for m in ("dice", "hd95_mm", "avd_percent")]
        + [table_of(*everyone).assign(metric=m) for m in ("lesion_recall", "lesion_f1")]
        + [table_of(JOINT, REGIONS).assign(structure="regions_mean")]
    )
    families = pd.Series([c.family for c in planned_comparisons(metrics)]).value_counts()
    assert families.to_dict() == {
        "input configurations": 6 * 5,
        "missing modality": 4 * 5,
        "joint model": 5 + 1,
    }


def test_friedman_by_hand():
    values = {FLAIR: [1, 1, 1, 1], T1: [2, 2, 2, 3], CONCATENATED: [3, 3, 3, 2]}
    metrics = pd.concat([rows_of(c, v) for c, v in values.items()])
    found = friedman(metrics, "lesions", "dice", list(values))
    sums = np.array([4, 9, 11])
    statistic = 12 / (4 * 3 * 4) * (sums**2).sum() - 3 * 4 * 4
    assert found.statistic == pytest.approx(statistic)
    assert found.p == pytest.approx(stats.chi2.sf(statistic, 2))
    assert found.kendall_w == pytest.approx(statistic / (4 * 2))
    assert found.mean_ranks.tolist() == pytest.approx([1, 2.25, 2.75])
    widest = found.posthoc.iloc[1]
    assert (widest["a"], widest["b"]) == (str(FLAIR), str(CONCATENATED))
    # Demsar (2006), table 5a: for three the critical difference at 0.05 is 2.343 in units of
    # sqrt(k (k + 1) / 6 n)
    q = 1.75 / np.sqrt(3 * 4 / (6 * 4))
    assert (q > 2.343) == (widest["p_nemenyi"] < 0.05)
    assert found.posthoc["p_nemenyi"].idxmin() == 1


def test_means_by_configuration():
    metrics = pd.concat([rows_of(FLAIR, [1, 2, 3]), rows_of(T1, [4, np.nan, 6])])
    table = means(metrics, SETTINGS, seed=0).set_index("model")
    assert table.loc["flair", "mean"] == 2
    assert table.loc["flair", "sd"] == 1
    assert table.loc["flair", "ci_low"] >= 1
    assert table.loc["t1", ["n", "n_missing", "mean"]].tolist() == [2, 1, 5]


# Real figures: three methods on the challenge's 110 test subjects -------------------------------

MEASURES = {"avd_pct": "avd_percent"}
MODELS = ("nnunet", "threshold", "wmhsynthseg")


def published_metrics(folder: Path) -> pd.DataFrame:
    tables = []
    for model in MODELS:
        wide = pd.read_csv(folder / f"evaluation_{model}.csv").rename(
            columns={**MEASURES, "participant_id": "subject"}
        )
        measures = ["dice", "hd95_mm", "avd_percent", "lesion_recall", "lesion_f1"]
        tidy = wide.melt(["subject", "scanner"], measures, "metric", "value")
        tables.append(
            tidy.assign(model=model, inputs_given="FLAIR+T1", structure="lesions", repeat=1)
        )
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def published(shared):
    folder = shared / "published"
    metrics = published_metrics(folder)
    expected = pd.read_csv(folder / "paired_statistics.csv").replace({"metric": MEASURES})
    comparisons = [
        Comparison(
            "published",
            "lesions",
            row.metric,
            Configuration(row.model_a, "FLAIR+T1"),
            Configuration(row.model_b, "FLAIR+T1"),
        )
        for row in expected.itertuples()
    ]
    return metrics, expected, compare(metrics, comparisons, Evaluation(), seed=0)


def test_sessions_of_a_person_are_no_further_people():
    """Every person seen three times: as many people, as sure, as had they been seen once."""
    once = table_of(FLAIR, T1, n=12)
    visits = [once.assign(subject="sub-" + once["subject"] + f"_ses-{n}") for n in range(3)]
    often = pd.concat(visits, ignore_index=True)
    planned = [Comparison("one", "lesions", "dice", T1, FLAIR)]
    for of_metrics in (
        lambda metrics: compare(metrics, planned, SETTINGS, seed=0),
        lambda metrics: means(metrics, SETTINGS, seed=0),
    ):
        pd.testing.assert_frame_equal(of_metrics(often), of_metrics(once))


@pytest.mark.shared
def test_published_p_values_and_differences(published):
    _, expected, found = published
    assert len(expected) == 15
    assert (found["n"] == 110).all()
    np.testing.assert_allclose(found["p_wilcoxon"], expected["p_wilcoxon"], rtol=1e-6)
    for ours, theirs in (
        ("mean_a", "mean_a"),
        ("mean_b", "mean_b"),
        ("mean_difference", "mean_diff_a_minus_b"),
    ):
        np.testing.assert_allclose(found[ours], expected[theirs], atol=1e-5)
    np.testing.assert_allclose(found["p_holm"], holm(expected["p_wilcoxon"]), rtol=1e-6)


@pytest.mark.shared
def test_published_intervals(published):
    """The published ones are percentile intervals within scanners; ours differ by BCa's shift."""
    metrics, expected, found = published
    scanners = scanner_of(metrics)
    for row, ours in zip(expected.itertuples(), found.itertuples(), strict=True):
        values = [
            subject_values(metrics, "lesions", row.metric, Configuration(model, "FLAIR+T1"))
            for model in (row.model_a, row.model_b)
        ]
        differences = (values[0] - values[1]).to_numpy()
        drawn = resample(scanners[values[0].index], 20_000, seed=0)
        width = row.ci_high - row.ci_low
        plain = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
        assert plain == pytest.approx((row.ci_low, row.ci_high), abs=0.05 * width)
        assert ours.ci_high - ours.ci_low == pytest.approx(width, rel=0.15)
        assert (ours.ci_low, ours.ci_high) == pytest.approx(
            (row.ci_low, row.ci_high), abs=width / 6
        )


@pytest.mark.shared
def test_published_intervals_of_means(published, shared):
    metrics, _, _ = published
    expected = pd.read_csv(shared / "published" / "mean_intervals.csv").replace(
        {"metric": MEASURES}
    )
    scanners = scanner_of(metrics)
    seen = {"utrecht_philips_3t", "singapore_siemens_3t", "amsterdam_ge_3t"}
    groups = {"all": scanners.notna(), "seen=True": scanners.isin(seen)}
    groups["seen=False"] = ~groups["seen=True"]
    for row in expected.itertuples():
        values = subject_values(
            metrics, "lesions", row.metric, Configuration(row.model, "FLAIR+T1")
        )[groups[row.group]]
        drawn = resample(scanners[values.index], 20_000, seed=0)
        low, high = np.quantile(values.to_numpy()[drawn].mean(axis=1), [0.025, 0.975])
        width = row.ci_high - row.ci_low
        assert values.mean() == pytest.approx(row.mean, abs=1e-5)
        assert (low, high) == pytest.approx((row.ci_low, row.ci_high), abs=0.06 * width)
