"""The leaderboard against the published scores of its own teams, and nnU-Net's published place."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.leaderboard import (
    BEST_AND_WORST,
    PUBLISHED_SCORES,
    TEST_SUBJECTS,
    LeaderboardRank,
    are_challenge_tests,
    leaderboard_rank,
    leaderboard_table,
    rank,
    score,
)
from wmh.analysis.statistics import Configuration
from wmh.cohorts.challenge import known_subjects
from wmh.figures.printed import rank_words

NNUNET = Configuration("nnunet", "FLAIR+T1")
MEANS = {  # nnU-Net, mean over the 110 test subjects, as published by JeanBrrt/wmh-multisite
    "dice": 0.8025,
    "hd95_mm": 6.12351,
    "avd_percent": 15.39794,
    "lesion_recall": 0.72841,
    "lesion_f1": 0.78344,
}


def table_of(means, n=TEST_SUBJECTS):
    rows = [
        (str(subject), "a", "nnunet", "FLAIR+T1", "lesions", metric, mean + deviation)
        for metric, mean in means.items()
        for subject, deviation in enumerate(np.linspace(-0.05, 0.05, n))
    ]
    columns = ["subject", "scanner", "model", "inputs_given", "structure", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_nnunet_has_its_published_place():
    found = leaderboard_rank(table_of(MEANS), NNUNET)
    assert found.score == pytest.approx(0.0555, abs=5e-5)
    assert found.rank == 9
    assert (found.n, found.missing) == (TEST_SUBJECTS, {}) == (110, {})


def test_fewer_subjects_have_no_rank():
    found = leaderboard_rank(table_of(MEANS, n=15), NNUNET)
    assert rank_words(found) == "only 15 of the 110 test subjects were predicted: no rank"


def test_a_missing_distance_is_left_out_and_counted_and_costs_no_rank():
    missing = table_of(MEANS)
    missing.loc[missing["metric"] == "hd95_mm", "value"] = [np.nan] * 2 + [MEANS["hd95_mm"]] * 108
    found = leaderboard_rank(missing, NNUNET)
    assert found.score == pytest.approx(0.0555, abs=5e-5)
    assert (found.n, found.missing) == (TEST_SUBJECTS, {"hd95_mm": 2})
    words = "score 0.0555, rank 9 among 57 published teams; HD95 (mm) of 2 subjects missing"
    assert rank_words(found) == words


def test_the_challenges_test_subjects_are_known_in_every_layout():
    known = known_subjects()
    tests, others = (known.loc[known["split"] == split, "id"] for split in ("test", "training"))
    assert len(tests) == TEST_SUBJECTS
    assert are_challenge_tests(tests)
    assert are_challenge_tests([f"sub-{int(number):03d}" for number in tests])
    assert not are_challenge_tests(tests.iloc[1:])
    assert not are_challenge_tests([*tests.iloc[1:], others.iloc[0]])
    assert not are_challenge_tests([f"sub-control{number}" for number in tests])


def test_best_and_worst_of_all_measures():
    assert score({metric: best for metric, (best, _) in BEST_AND_WORST.items()}) == 0
    assert score({metric: worst for metric, (_, worst) in BEST_AND_WORST.items()}) == 1
    beyond = {metric: worst + (worst - best) for metric, (best, worst) in BEST_AND_WORST.items()}
    assert score(beyond) == 1
    assert (rank(0.0), rank(1.0)) == (1, 58)
    assert rank(PUBLISHED_SCORES[0]) == 1


@pytest.mark.shared
def test_every_team_has_about_its_published_score(shared):
    """Their means are rounded to two decimals, so scores agree to about 0.005."""
    teams = pd.read_csv(shared / "published" / "leaderboard_wmh2017.csv")
    teams = teams.rename(columns={"avd_pct": "avd_percent"})
    assert teams["rank_score"].tolist() == list(PUBLISHED_SCORES)
    ours = teams[list(BEST_AND_WORST)].apply(lambda row: score(row.to_dict()), axis=1)
    np.testing.assert_allclose(ours, teams["rank_score"], atol=0.005)


@pytest.mark.shared
def test_nnunets_own_subjects(shared):
    wide = pd.read_csv(shared / "published" / "evaluation_nnunet.csv")
    wide = wide.rename(columns={"participant_id": "subject", "avd_pct": "avd_percent"})
    tidy = wide.melt(["subject", "scanner"], list(BEST_AND_WORST), "metric", "value")
    found = leaderboard_rank(
        tidy.assign(model="nnunet", inputs_given="FLAIR+T1", structure="lesions"), NNUNET
    )
    assert found.score == pytest.approx(0.0555, abs=5e-5)
    assert (found.rank, found.n) == (9, TEST_SUBJECTS)
    assert are_challenge_tests(wide["subject"])


def test_places_as_a_table():
    table = leaderboard_table({"flair (FLAIR)": LeaderboardRank(0.1, 7, 108, {"hd95_mm": 2})})
    assert table.iloc[0].tolist() == ["flair (FLAIR)", 0.1, 7, 108, 2]
