"""Seen and unseen scanners, lesion load."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wmh.analysis.generalization import load_dependence, seen_and_unseen, spearman_interval
from wmh.analysis.statistics import FLAIR, T1
from wmh.figures.printed import correlation_table, gap_table
from wmh.settings import Evaluation

SETTINGS = Evaluation(bootstrap_samples=2000)


@pytest.fixture
def metrics():
    """FLAIR loses 0.3 on the unseen scanners, T1 nothing; both rise with the subject's number."""
    rng = np.random.default_rng(1)
    tables = []
    for configuration, loss in ((FLAIR, 0.3), (T1, 0.0)):
        value = 0.5 + 0.01 * np.arange(24) % 0.12 + rng.normal(0, 0.02, 24)
        value[12:] -= loss
        tables.append(
            pd.DataFrame(
                {
                    "subject": np.arange(24),
                    "scanner": ["a"] * 6 + ["b"] * 6 + ["c"] * 12,
                    "model": configuration.model,
                    "inputs_given": configuration.given,
                    "structure": "lesions",
                    "metric": "dice",
                    "value": value,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_a_loss_on_unseen_scanners_is_found(metrics):
    table = seen_and_unseen(metrics, "lesions", "dice", (FLAIR, T1), {"a", "b"}, SETTINGS, 0)
    flair, t1 = table.to_dict("records")
    assert (flair["n_seen"], flair["n_unseen"]) == (12, 12)
    assert flair["mean_difference"] == pytest.approx(-0.3, abs=0.03)
    assert flair["ci_low"] < flair["mean_difference"] < flair["ci_high"] < 0
    assert t1["ci_low"] < 0 < t1["ci_high"]
    flair_values = metrics[metrics["model"] == "flair"]["value"].to_numpy()
    expected = stats.mannwhitneyu(flair_values[12:], flair_values[:12]).pvalue
    assert flair["p_mann_whitney"] == pytest.approx(expected)
    assert flair["p_holm"] == pytest.approx(2 * expected)
    assert t1["p_holm"] > 0.05


def test_without_unseen_scanners_there_is_no_gap(metrics):
    table = seen_and_unseen(metrics, "lesions", "dice", (FLAIR,), {"a", "b", "c"}, SETTINGS, 0)
    assert table["n_unseen"][0] == 0
    assert table[["mean_difference", "ci_low", "p_mann_whitney", "p_holm"]].isna().all(axis=None)


def test_load_dependence_is_spearmans(metrics):
    lesion_ml = pd.Series(np.exp(np.arange(24) / 5.0), index=np.arange(24))
    table = load_dependence(metrics, "lesions", "dice", (FLAIR, T1), lesion_ml)
    values = metrics[metrics["model"] == "t1"]["value"]
    rho, p = stats.spearmanr(values, lesion_ml)
    assert table["rho"][1] == pytest.approx(rho)
    assert table["p"][1] == pytest.approx(p)
    assert table["ci_low"][1] < rho < table["ci_high"][1]


def test_sessions_of_a_person_have_one_load(metrics):
    lesion_ml = pd.Series(np.exp(np.arange(24) / 5.0), index=[f"sub-{i:02}" for i in range(24)])
    once = metrics.assign(subject=metrics["subject"].map("sub-{:02}".format))
    names = [f"{name}_ses-{n}" for n in "ab" for name in lesion_ml.index]
    often = pd.concat([once.assign(subject=once["subject"] + f"_ses-{n}") for n in "ab"])
    table, expected = (
        load_dependence(m, "lesions", "dice", (FLAIR, T1), ml)
        for m, ml in ((often, pd.Series([*lesion_ml] * 2, index=names)), (once, lesion_ml))
    )
    pd.testing.assert_frame_equal(table, expected)


@pytest.mark.filterwarnings("error")
def test_few_subjects_in_one_order_prove_little_and_equal_ones_nothing(metrics):
    rising = metrics[metrics["subject"].astype(int) < 3].copy()
    rising["value"] = rising["subject"].astype(float) * (rising["model"] == "flair")
    lesion_ml = pd.Series(np.arange(24.0), index=np.arange(24))
    table = load_dependence(rising, "lesions", "dice", (FLAIR, T1), lesion_ml)
    assert table["rho"][0] == pytest.approx(1)
    assert table["p"][0] == pytest.approx(1 / 3)
    assert table.loc[1, ["rho", "p", "p_holm"]].isna().all()


def test_spearman_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    rho = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of a bivariate normal of correlation 0.5
    normal = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], (600, 40))
    found = [stats.spearmanr(sample).statistic for sample in normal]
    covered = [low < rho < high for low, high in (spearman_interval(r, 40) for r in found)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
    assert np.isnan(spearman_interval(0.5, 3)).all()


def test_without_a_configuration_the_tables_are_empty_and_can_be_printed(metrics):
    gaps = seen_and_unseen(metrics, "lesions", "dice", [], {"a"}, Evaluation(), seed=0)
    load = load_dependence(metrics, "lesions", "dice", [], pd.Series(dtype=float))
    assert len(gap_table(gaps)) == len(correlation_table(load)) == 0
