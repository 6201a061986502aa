"""The leaderboard against the published scores of its own teams, and nnU-Net's published place."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.leaderboard import (
    BEST_AND_WORST,
    PUBLISHED_SCORES,
    TEST_SUBJECTS,
    place,
    rank,
    score,
)
from wmh.analysis.statistics import Configuration

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
    found = place(table_of(MEANS), NNUNET)
    assert found.score == pytest.approx(0.0555, abs=5e-5)
    assert found.rank == 9
    assert (found.n, found.comparable) == (110, True)


def test_fewer_subjects_are_not_comparable():
    assert not place(table_of(MEANS, n=15), NNUNET).comparable
    missing = table_of(MEANS)
    missing.loc[missing["metric"] == "hd95_mm", "value"] = [np.nan] + [6.0] * 109
    assert not place(missing, NNUNET).comparable


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
    found = place(tidy.assign(model="nnunet", inputs_given="FLAIR+T1", structure="lesions"), NNUNET)
    assert found.score == pytest.approx(0.0555, abs=5e-5)
    assert (found.rank, found.comparable) == (9, True)
