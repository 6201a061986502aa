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
    assert model.concerns[:2] == [
        "each scanner has only one subject: the interaction was left out",
        "with so few subjects p of the terms is too small",
    ]
    assert np.isfinite(model.residual_sd)
