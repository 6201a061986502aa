"""The mixed model finds the effects that were put in."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wmh.analysis.mixed_model import fit_mixed_model
from wmh.analysis.statistics import CONCATENATED, FLAIR, T1
from wmh.figures.printed import mixed_model_words


def simulated(configurations, effects, by_scanner=None, n=24, noise=0.03, seed=0):
    """``n`` subjects of three scanners; they vary by 0.1, each configuration adds its effect."""
    rng = np.random.default_rng(seed)
    subjects = rng.normal(0.6, 0.1, n)
    scanners = np.array(["a", "b", "c"])[np.arange(n) % 3]
    tables = []
    for configuration, effect in zip(configurations, effects, strict=True):
        extra = np.array([(by_scanner or {}).get((configuration, s), 0.0) for s in scanners])
        tables.append(
            pd.DataFrame(
                {
                    "subject": [f"s{i}" for i in range(n)],
                    "scanner": scanners,
                    "model": configuration.model,
                    "inputs_given": configuration.given,
                    "structure": "lesions",
                    "metric": "dice",
                    "value": subjects + effect + extra + rng.normal(0, noise, n),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_recovers_effects_and_variances():
    configurations = (FLAIR, T1, CONCATENATED)
    metrics = simulated(configurations, (0.0, -0.2, 0.05), n=90)
    model = fit_mixed_model(metrics, "lesions", "dice", configurations)
    effects = model.effects.set_index("effect")["estimate"]
    assert effects["t1 (T1)"] == pytest.approx(-0.2, abs=0.02)
    assert effects["flair_t1 (FLAIR+T1)"] == pytest.approx(0.05, abs=0.02)
    assert model.subject_sd == pytest.approx(0.1, abs=0.02)
    assert model.residual_sd == pytest.approx(0.03, abs=0.005)
    assert (model.n_values, model.n_subjects) == (270, 90)
    assert model.concerns == []


def test_of_two_configurations_on_one_scanner_it_is_the_paired_t_test():
    metrics = simulated((FLAIR, T1), (0, -0.03)).assign(scanner="a")
    model = fit_mixed_model(metrics, "lesions", "dice", (FLAIR, T1))
    values = metrics.pivot_table(index="subject", columns="model", values="value")
    t = stats.ttest_rel(values["t1"], values["flair"])
    effect = model.effects.set_index("effect").loc["t1 (T1)"]
    assert effect["estimate"] == pytest.approx((values["t1"] - values["flair"]).mean(), rel=1e-6)
    assert effect["p"] == pytest.approx(t.pvalue, rel=1e-3)
    interval = t.confidence_interval()
    assert effect[["ci_low", "ci_high"]].tolist() == pytest.approx([*interval], rel=1e-4)
    assert model.tests["term"].tolist() == ["configuration"]


def test_terms_are_tested_as_in_a_split_plot():
    """The F-tests of a split-plot's table, whatever the number of subjects on a scanner."""
    configurations = (FLAIR, T1, CONCATENATED)
    metrics = simulated(configurations, (0, -0.01, 0.01), {(T1, "c"): -0.05}, n=9)
    values = metrics.pivot_table(index=["scanner", "subject"], columns="model", values="value")
    means, grand = values.mean(axis=1), values.to_numpy().mean()
    of_scanner = means.groupby("scanner").mean()
    of_cell = values.groupby("scanner").mean()
    additive = np.add.outer(of_scanner.to_numpy(), values.mean().to_numpy()) - grand
    within = values.sub(means, axis=0) - of_cell.sub(of_scanner, axis=0).reindex(
        values.index, level="scanner"
    )
    between = (means - of_scanner.reindex(means.index, level="scanner")) ** 2
    of_subjects, of_values = 3 * between.sum() / 6, (within.to_numpy() ** 2).sum() / 12
    inter = 3 * ((of_cell.to_numpy() - additive) ** 2).sum()
    pooled = (12 * of_values + inter) / 16  # main effects are tested without the interaction
    expected = {
        "configuration": (9 * ((values.mean() - grand) ** 2).sum() / 2 / pooled, 2, 16),
        "scanner": (9 * ((of_scanner - grand) ** 2).sum() / 2 / of_subjects, 2, 6),
        "configuration x scanner": (inter / 4 / of_values, 4, 12),
    }
    model = fit_mixed_model(metrics, "lesions", "dice", configurations)
    for term, found in model.tests.set_index("term").iterrows():
        assert found[["F", "df", "df_error"]].tolist() == pytest.approx(expected[term], rel=1e-3)
        assert found["p"] == pytest.approx(stats.f.sf(*expected[term]), rel=5e-3)


def test_level_and_scanners_are_as_sure_as_there_are_subjects():
    """More configurations of the same nine subjects say no more of their scanners."""
    configurations = (FLAIR, T1, CONCATENATED)
    metrics = simulated(configurations, (0, -0.1, 0), n=9)
    effects = fit_mixed_model(metrics, "lesions", "dice", configurations).effects
    for effect in effects.itertuples():
        freedom = 6 if effect.effect in ("intercept", "a", "b") else 12
        error = (effect.ci_high - effect.estimate) / stats.t.isf(0.025, freedom)
        p = 2 * stats.t.sf(abs(effect.estimate) / error, freedom)
        assert effect.p == pytest.approx(p, rel=1e-6)


def test_subjects_that_do_not_differ_are_no_obstacle():
    metrics = simulated((FLAIR, T1), (0, -0.1))
    metrics["value"] -= metrics.groupby("subject")["value"].transform("mean")
    model = fit_mixed_model(metrics, "lesions", "dice", (FLAIR, T1))
    assert model.subject_sd == 0
    assert "subjects explain none of the variance" in model.concerns


def test_an_empty_cell_leaves_the_interaction_out_and_says_so():
    metrics = simulated((FLAIR, T1), (0, -0.1))
    metrics = metrics[~((metrics["model"] == "t1") & (metrics["scanner"] == "b"))]
    model = fit_mixed_model(metrics, "lesions", "dice", (FLAIR, T1))
    assert "configuration x scanner" not in set(model.tests["term"])
    assert "interaction was left out" in model.concerns[0]


def test_finds_an_interaction_and_no_other():
    with_interaction = simulated((FLAIR, T1), (0, -0.1), {(T1, "c"): -0.15}, n=45)
    without = simulated((FLAIR, T1), (0, -0.1), n=45)
    p = [
        fit_mixed_model(metrics, "lesions", "dice", (FLAIR, T1)).tests.set_index("term")["p"]
        for metrics in (with_interaction, without)
    ]
    assert p[0]["configuration x scanner"] < 1e-6
    assert p[1]["configuration x scanner"] > 0.05
    assert p[1]["configuration"] < 1e-6
    assert p[1]["scanner"] > 0.05


def test_says_when_a_residual_is_far_out():
    metrics = simulated((FLAIR, T1), (0, 0), n=30)
    metrics.loc[0, "value"] = -1.0
    assert any(
        "four standard deviations" in words
        for words in fit_mixed_model(metrics, "lesions", "dice", (FLAIR, T1)).concerns
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [None, 0.0])
def test_of_one_subject_nothing_is_estimated(value):
    configurations = (FLAIR, T1, CONCATENATED)
    metrics = simulated(configurations, (0, -0.1, 0.1), n=1)
    if value is not None:
        metrics["value"] = value
    model = fit_mixed_model(metrics, "lesions", "dice", configurations)
    assert model.effects["p"].isna().all()
    assert model.tests["p"].isna().all()
    assert (
        mixed_model_words(model) == "No mixed model: 3 values of n = 1 are too few, or all alike."
    )


def test_one_subject_a_scanner_leaves_the_interaction_out():
    model = fit_mixed_model(simulated((FLAIR, T1), (0, -0.1), n=3), "lesions", "dice", (FLAIR, T1))
    assert model.concerns[0] == "each scanner has only one subject: the interaction was left out"
    assert np.isfinite(model.residual_sd)
    p = model.tests.set_index("term")["p"]
    assert np.isfinite(p["configuration"])
    assert np.isnan(p["scanner"])  # told from no subject's own level
