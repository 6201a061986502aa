"""Every statistic is printed one way, with its n where it matters, and nothing is lost."""

import doctest

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.leaderboard import LeaderboardRank
from wmh.analysis.mixed_model import fit_mixed_model
from wmh.analysis.statistics import CONCATENATED, FLAIR, T1, compare, friedman, means
from wmh.analysis.statistics import planned_comparisons as planned
from wmh.figures import printed
from wmh.settings import Evaluation

SETTINGS = Evaluation(bootstrap_samples=200)
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for subject in range(12):
        for side, level in ((FLAIR, 0.6), (T1, 0.4), (CONCATENATED, 0.7)):
            for metric, factor in (("dice", 1), ("hd95_mm", 20)):
                value = factor * (level + rng.normal(0, 0.02))
                lost = side == T1 and metric == "hd95_mm" and subject == 3
                about = (f"s{subject}", f"scanner{subject % 2}", side.model, side.given)
                rows.append((*about, "lesions", metric, np.nan if lost else value))
    columns = ["subject", "scanner", "model", "inputs_given", "structure", "metric", "value"]
    return pd.DataFrame(rows, columns=columns).assign(repeat=1)


def test_means_stand_by_configuration_and_measure(metrics):
    found = means(metrics, SETTINGS, seed=0)
    table = printed.means_table(found)
    assert list(table.index) == ["FLAIR", "T1", "Concatenated"]
    row = found[(found["model"] == "t1") & (found["metric"] == "dice")].iloc[0]
    assert table.loc["T1", "Dice"].startswith(f"{row['mean']:.3f} [{row['ci_low']:.3f}, ")
    assert table.loc["T1", "Lesion F1"] == ""


def test_differences_say_where_pairs_are_missing(metrics):
    table = printed.differences_table(compare(metrics, planned(metrics), SETTINGS, seed=0))
    assert list(table.columns) == ["Dice", "HD95 (mm)"]
    pair = table.loc[f"FLAIR {MINUS} T1"]
    assert pair["Dice"].startswith("+0.2")
    assert pair["Dice"].endswith(("p < 0.001", "p = 0.002", "p = 0.003"))
    assert pair["HD95 (mm)"].endswith("(n = 11)")


def test_no_comparison_makes_an_empty_table(metrics):
    assert printed.differences_table(compare(metrics, [], SETTINGS, seed=0)).empty


def test_friedman_and_the_mixed_model_in_words(metrics):
    sides = [FLAIR, T1, CONCATENATED]
    words = printed.friedman_words(friedman(metrics, "lesions", "dice", sides), 0.05)
    assert "χ²(2) = 24.0, n = 12, p < 0.001, Kendall's W = 1.00" in words
    assert "Concatenated 3.00, FLAIR 2.00, T1 1.00" in words
    model = fit_mixed_model(metrics, "lesions", "dice", sides)
    words = printed.mixed_model_words(model)
    assert words.startswith("36 values of 12 subjects. configuration: F(2, 22) = ")
    assert "configuration x scanner: F(2, 20) = " in words
    effects = printed.effects_table(model)
    assert list(effects.index) == ["T1", "Concatenated"]
    assert effects.loc["T1", "effect [interval]"].startswith(f"{MINUS}0.2")


def test_a_rank_among_the_teams_in_words():
    words = printed.rank_words(LeaderboardRank(0.05554, 9, 110, {}))
    assert words == "score 0.0555, rank 9 among 57 published teams"


def test_only_differences_have_a_sign():
    row = {
        "claim": "a", "sentence": "It agrees.",
        "comparison": "regional burden (ml): ICC(A,1) of joint with truth", "n": 12,
        "mean_difference": 0.873, "ci_low": 0.8, "ci_high": 0.91, "p_holm": np.nan,
        "smallest_difference": 0.75, "verdict": "supported",
        "claim_verdict": "supported",
        "repeats": 2, "repeat_sd": 0.01, "repeat_low": 0.863, "repeat_high": 0.883,
        "repeats_agreeing": 2,
    }  # fmt: skip
    table = printed.evidence_table(pd.DataFrame([row])).iloc[0]
    assert table["effect [interval]"] == "0.873 [0.800, 0.910]"
    assert table["over repeats"] == "0.863 to 0.883 (sd 0.010); 2 of 2 alike"
    side = {"model": ["flair"], "inputs_given": ["FLAIR"], "n": [12]}
    numbers = {"rho": [0.618], "ci_low": [-0.1], "ci_high": [0.9], "p_holm": [0.04]}
    found = printed.correlation_table(pd.DataFrame(side | numbers))
    assert found.loc["FLAIR", "Spearman's rho"] == f"0.618 [{MINUS}0.100, 0.900]"


def test_the_posthoc_test_follows_the_studys_alpha(metrics):
    found = friedman(metrics, "lesions", "dice", [FLAIR, T1, CONCATENATED])
    assert "FLAIR and T1 (p = 0.0" in printed.friedman_words(found, 0.05)
    assert "FLAIR and T1 (" not in printed.friedman_words(found, 1e-3)


def test_the_spread_over_repeats_is_shown_where_there_are_several():
    row = {
        "claim": "a", "sentence": "It is so.",
        "comparison": "lesion Dice: t1 (T1) minus flair (FLAIR)", "n": 12,
        "mean_difference": 0.1, "ci_low": 0.05, "ci_high": 0.15, "p_holm": 0.01,
        "smallest_difference": 0.02, "verdict": "supported",
        "claim_verdict": "supported",
        "repeats": 1, "repeat_sd": np.nan, "repeat_low": 0.1, "repeat_high": 0.1,
        "repeats_agreeing": 1,
    }  # fmt: skip
    once = printed.evidence_table(pd.DataFrame([row]))
    assert "over repeats" not in once
    assert once.loc["lesion Dice: T1 minus FLAIR", "effect [interval]"] == "+0.100 [+0.050, +0.150]"
    row |= {"repeats": 3, "repeat_sd": 0.02, "repeat_low": 0.08, "repeat_high": 0.12}
    thrice = printed.evidence_table(pd.DataFrame([row | {"repeats_agreeing": 2}]))
    assert thrice["over repeats"].iloc[0] == "+0.080 to +0.120 (sd 0.020); 2 of 3 alike"
    assert printed.verdict_words(pd.DataFrame([row])) == "> It is so.\n\n**Supported.**"
    never = {"comparison": "lesion Dice: t1 (T1) minus flair_t1 (T1)", "n": 0}
    assert printed.index_words(pd.DataFrame([row, row | never])) == (
        "1. [It is so.](#Claim-1) **Supported.** lesion Dice: T1 minus FLAIR: +0.100 "
        "[+0.050, +0.150]; lesion Dice: T1 minus Concatenated, FLAIR blank: not measured"
    )


@pytest.mark.filterwarnings("error")
def test_where_all_ranks_tie_friedman_says_so(metrics):
    found = friedman(metrics.assign(value=0.0), "lesions", "dice", [FLAIR, T1, CONCATENATED])
    assert "nothing to tell apart: all ranks tie" in printed.friedman_words(found, 0.05)


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(printed).failed == 0


def test_units_decide_on_decimals():
    assert printed.with_interval(8.26, 7.0, 9.94, "hd95_mm") == "8.3 [7.0, 9.9]"
    assert printed.signed(-12.34, "volume_bias_ml") == f"{MINUS}12.3"
    assert printed.printed(float("nan")) == printed.signed(float("nan")) == "–"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "p < 0.001"), (0.0123, "p = 0.012"), (0.4, "p = 0.40"), (np.nan, "not testable")],
)
def test_p_values_are_printed_one_way(p, text):
    assert printed.p_text(p) == text


def test_comparisons_are_printed_with_the_names_of_the_figures():
    text = printed.readable("lesion Dice: interchangeable (T1) minus flair_t1 (T1)")
    assert text == "lesion Dice: Interchangeable, T1 only minus Concatenated, FLAIR blank"


def test_effects_that_round_to_nothing_have_no_sign():
    assert [printed.signed(value) for value in (0.0217, -0.0217, -0.0001)] == [
        "+0.022",
        f"{MINUS}0.022",
        "0.000",
    ]
