"""Verdicts follow from the numbers, whichever way the numbers fall."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmh.analysis.claims import (
    INCONCLUSIVE,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    judge,
    overall,
    paper_claims,
    verdict,
)
from wmh.analysis.statistics import Comparison, compare, holm
from wmh.settings import Evaluation

SETTINGS = Evaluation(bootstrap_samples=500)

AS_PAPER = {
    ("flair", "FLAIR"): 0.70,
    ("t1", "T1"): 0.50,
    ("flair_t1", "FLAIR+T1"): 0.80,
    ("flair_t1", "FLAIR"): 0.40,
    ("flair_t1", "T1"): 0.10,
    ("interchangeable", "FLAIR+T1"): 0.74,
    ("interchangeable", "FLAIR"): 0.68,
    ("interchangeable", "T1"): 0.45,
    ("multitask", "FLAIR+T1"): 0.65,
}
REGION_DICE = {("regions", "FLAIR+T1"): 0.85, ("multitask", "FLAIR+T1"): 0.75}


def metrics_of(lesions, regions, n=15, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    subjects = rng.normal(0, 0.1, n)
    rows = [
        (f"s{i}", f"scanner{i % 3}", *side, structure, "dice", mean + subjects[i] + error)
        for structure, means in (("lesions", lesions), ("regions_mean", regions))
        for side, mean in means.items()
        for i, error in enumerate(rng.normal(0, noise, n))
    ]
    columns = ["subject", "scanner", "model", "inputs_given", "structure", "metric", "value"]
    return pd.DataFrame(rows, columns=columns).assign(repeat=1)


def burden_of(error, n=15, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.gamma(1, 2, (n, 36))
    tables = []
    for source, ml in (("truth", truth), ("joint", truth + rng.normal(0, error, (n, 36)))):
        subject, region = np.indices(ml.shape)
        tables.append(
            pd.DataFrame(
                {
                    "subject": [f"s{i}" for i in subject.ravel()],
                    "scanner": [f"scanner{i % 3}" for i in subject.ravel()],
                    "repeat": 1,
                    "source": source,
                    "region": region.ravel() + 1,
                    "lesion_ml": ml.ravel(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


NO_BURDEN = burden_of(0.0)[:0]


def by_claim(table):
    return table.groupby("claim", sort=False)["claim_verdict"].first().to_dict()


def test_numbers_as_in_the_paper_support_every_claim():
    table = judge(metrics_of(AS_PAPER, REGION_DICE), burden_of(0.2), SETTINGS, 0, paper_claims())
    assert by_claim(table) == {
        "multimodal_is_better": SUPPORTED,
        "interchangeable_trades_accuracy": SUPPORTED,
        "interchangeable_is_robust": SUPPORTED,
        "joint_is_less_effective": SUPPORTED,
        "joint_burden_agrees": SUPPORTED,
    }
    first = table.iloc[0]
    assert first["comparison"] == "lesion Dice: flair_t1 (FLAIR+T1) minus flair (FLAIR)"
    assert first["mean_difference"] == pytest.approx(0.1, abs=0.02)
    assert first["ci_low"] > first["smallest_difference"] == 0.02


def test_the_opposite_numbers_support_none():
    opposite = {side: 1 - mean for side, mean in AS_PAPER.items()}
    regions = {side: 1 - mean for side, mean in REGION_DICE.items()}
    table = judge(metrics_of(opposite, regions), burden_of(20.0), SETTINGS, 0, paper_claims())
    assert set(table["verdict"]) == {NOT_SUPPORTED}


def test_equal_models_do_not_support_a_difference():
    same = dict.fromkeys(AS_PAPER, 0.7)
    precise = judge(
        metrics_of(same, REGION_DICE, noise=0.002), NO_BURDEN, SETTINGS, 0, paper_claims()
    )
    assert by_claim(precise)["multimodal_is_better"] == NOT_SUPPORTED
    noisy = judge(metrics_of(same, REGION_DICE, noise=0.2), NO_BURDEN, SETTINGS, 0, paper_claims())
    assert by_claim(noisy)["multimodal_is_better"] == INCONCLUSIVE


def test_too_few_subjects_are_never_enough():
    table = judge(
        metrics_of(AS_PAPER, REGION_DICE, n=3), burden_of(0.2, n=2), SETTINGS, 0, paper_claims()
    )
    assert set(table["verdict"]) == {INCONCLUSIVE}
    opposite = {side: 1 - mean for side, mean in AS_PAPER.items()}
    regions = {side: 1 - mean for side, mean in REGION_DICE.items()}
    for n, verdicts in ((5, {INCONCLUSIVE}), (6, {NOT_SUPPORTED})):
        metrics, burden = metrics_of(opposite, regions, n=n), burden_of(20.0, n=n)
        table = judge(metrics, burden, SETTINGS, 0, paper_claims())
        assert set(table["verdict"]) == verdicts


def test_models_not_trained_leave_their_claims_open():
    some = {side: mean for side, mean in AS_PAPER.items() if side[0] in ("flair", "flair_t1")}
    table = judge(metrics_of(some, {}), NO_BURDEN, SETTINGS, 0, paper_claims())
    assert len(table) == 8
    rows = table.set_index("comparison")
    assert rows.loc["lesion Dice: flair_t1 (FLAIR+T1) minus flair (FLAIR)", "verdict"] == SUPPORTED
    without = rows.loc["lesion Dice: flair_t1 (FLAIR+T1) minus t1 (T1)"]
    assert (without["n"], without["verdict"]) == (0, NOT_JUDGED)
    assert np.isnan(without["mean_difference"])
    assert by_claim(table)["multimodal_is_better"] == INCONCLUSIVE
    assert by_claim(table)["joint_burden_agrees"] == NOT_JUDGED


def test_one_failed_part_is_a_failed_claim():
    means = AS_PAPER | {("flair", "FLAIR"): 0.80}
    table = judge(metrics_of(means, REGION_DICE), NO_BURDEN, SETTINGS, 0, paper_claims())
    parts = table[table["claim"] == "multimodal_is_better"]
    assert list(parts["verdict"]) == [NOT_SUPPORTED, SUPPORTED]
    assert by_claim(table)["multimodal_is_better"] == NOT_SUPPORTED


def test_correction_is_over_all_claims():
    metrics = metrics_of(AS_PAPER, REGION_DICE, noise=0.1)
    table = judge(metrics, NO_BURDEN, SETTINGS, 0, paper_claims())
    comparisons = [p for c in paper_claims() for p in c.parts if isinstance(p, Comparison)]
    raw = compare(metrics, comparisons, SETTINGS, 0)["p_wilcoxon"]
    assert table["p_holm"].dropna().to_numpy() == pytest.approx(holm(raw))
    assert table["p_holm"].isna().sum() == 1


def test_the_joint_model_is_held_against_the_lesion_model_of_its_inputs():
    joint = paper_claims("flair")[3]
    assert [f"{part.structure}: {part.a} minus {part.b}" for part in joint.parts] == [
        "lesions: flair (FLAIR) minus multitask (FLAIR)",
        "regions_mean: regions (FLAIR) minus multitask (FLAIR)",
    ]


def test_repeats_are_pooled_and_shown():
    reversed_order = AS_PAPER | {("flair", "FLAIR"): 0.95}
    metrics = pd.concat(
        [
            metrics_of(AS_PAPER, REGION_DICE, seed=1).assign(repeat=1),
            metrics_of(AS_PAPER, REGION_DICE, seed=2).assign(repeat=2),
            metrics_of(reversed_order, REGION_DICE, seed=3).assign(repeat=3),
        ]
    )
    burden = pd.concat([burden_of(0.2).assign(repeat=seed) for seed in (1, 2, 3)])
    table = judge(metrics, burden, SETTINGS, 0, paper_claims())
    row = table.iloc[0]
    assert row["n"] == 15
    assert row["repeats"] == 3
    assert row["repeat_low"] == pytest.approx(-0.15, abs=0.02)
    assert row["repeat_high"] == pytest.approx(0.1, abs=0.02)
    assert row["mean_difference"] == pytest.approx((0.1 + 0.1 - 0.15) / 3, abs=0.01)
    assert table["repeats_agreeing"].iloc[1] == 3
    assert row["repeats_agreeing"] < 3
    assert table["repeat_low"].iloc[-1] == table["mean_difference"].iloc[-1]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 0.5), st.floats(0, 1), st.booleans())
def test_an_interval_over_the_smallest_difference_is_inconclusive(low, width, smallest, p, tested):
    p = p if tested else float("nan")
    said = verdict(low, low + width, smallest, p, 0.05)
    if low <= smallest <= low + width:
        assert said == INCONCLUSIVE
    if said == SUPPORTED:
        assert low > smallest
        assert not tested or p < 0.05
    if said == NOT_SUPPORTED:
        assert low + width < smallest


def test_parts_make_a_whole():
    assert overall([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert overall([SUPPORTED, INCONCLUSIVE]) == INCONCLUSIVE
    assert overall([INCONCLUSIVE, NOT_SUPPORTED]) == NOT_SUPPORTED
    assert overall([SUPPORTED, NOT_JUDGED]) == INCONCLUSIVE
    assert overall([NOT_JUDGED, NOT_JUDGED]) == NOT_JUDGED


def test_same_seed_same_table():
    arguments = metrics_of(AS_PAPER, REGION_DICE), burden_of(0.5), SETTINGS
    first, second = (judge(*arguments, 3, paper_claims()) for _ in range(2))
    assert first.equals(second)
