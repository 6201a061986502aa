"""A study's rank on the leaderboard of the MICCAI WMH Segmentation Challenge.

Each of the five measures is averaged over the challenge's 110 test subjects and scaled to a number
from 0 (the best team) to 1 (the worst). The score is the mean of the five (Kuijf et al. 2019). The
extremes and the published scores of the 57 teams are those of the challenge's site when it closed
in 2022 (https://wmh.isi.uu.nl), as recorded in JeanBrrt/wmh-multisite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from wmh.analysis.metrics import FIVE_MEASURES
from wmh.analysis.statistics import LESIONS, Configuration, subject_values
from wmh.cohorts.challenge import known_subjects
from wmh.study import Study

TEST_SUBJECTS = 110

BEST_AND_WORST = {
    "dice": (0.81, 0.23),
    "hd95_mm": (5.46, 52.02),
    "avd_percent": (16.20, 828.61),
    "lesion_recall": (0.88, 0.25),
    "lesion_f1": (0.79, 0.11),
}
"""Mean value of the best and of the worst team."""

# fmt: off
PUBLISHED_SCORES = (
    0.0215, 0.0220, 0.0320, 0.0345, 0.0349, 0.0415, 0.0520, 0.0541, 0.0568, 0.0602,
    0.0625, 0.0704, 0.0780, 0.0833, 0.0876, 0.0890, 0.0917, 0.0934, 0.0954, 0.0954,
    0.0991, 0.1033, 0.1070, 0.1085, 0.1139, 0.1154, 0.1201, 0.1215, 0.1369, 0.1383,
    0.1549, 0.1581, 0.1584, 0.1662, 0.1718, 0.1758, 0.1818, 0.1842, 0.2051, 0.2635,
    0.2862, 0.2894, 0.2914, 0.3055, 0.3060, 0.3092, 0.3101, 0.3616, 0.3921, 0.3963,
    0.4239, 0.4466, 0.4505, 0.4836, 0.5782, 0.6099, 0.8957,
)
# fmt: on
"""Scores of all teams, best first."""


class LeaderboardRank(NamedTuple):
    """Score (0 best, 1 worst), rank among the published teams, and number of subjects.

    ``missing`` is the number of subjects without a value, by measure; measures with 0 are not
    listed.
    """

    score: float
    rank: int
    n: int
    missing: dict[str, int]


def leaderboard_ranks(
    study: Study, metrics: pd.DataFrame, configurations: Iterable[Configuration]
) -> dict[str, LeaderboardRank]:
    """The rank of each configuration by name; empty for other than the challenge's test people."""
    simulated = study.cohort.source == "simulated"
    if simulated or not are_challenge_tests(metrics["subject"].unique()):
        return {}
    return {str(one): leaderboard_rank(metrics, one) for one in configurations}


def leaderboard_table(ranks: Mapping[str, LeaderboardRank]) -> pd.DataFrame:
    """Ranks by configuration as a table: score, rank, n, and the number of missing values."""
    rows = [
        (name, one.score, one.rank, one.n, sum(one.missing.values())) for name, one in ranks.items()
    ]
    return pd.DataFrame(rows, columns=["configuration", "score", "rank", "n", "missing"])


def leaderboard_rank(metrics: pd.DataFrame, configuration: Configuration) -> LeaderboardRank:
    """Rank one configuration of a tidy table of measures among the published teams.

    The caller must check that these are the challenge's test subjects
    (:func:`are_challenge_tests`). Subjects without a value of a measure are left out of its mean,
    as in the challenge.
    """
    columns = {m: subject_values(metrics, LESIONS, m, configuration) for m in FIVE_MEASURES}
    values = pd.DataFrame(columns)
    points = score(values.mean().to_dict())
    missing = {metric: int(count) for metric, count in values.isna().sum().items() if count}
    return LeaderboardRank(points, rank(points), len(values), missing)


def are_challenge_tests(subjects: Iterable[str]) -> bool:
    """Whether these are the ids of exactly the challenge's test subjects.

    The ids are numbers; in a BIDS folder or a CSV they may be written as ``sub-007``.
    """
    known = known_subjects().query("split == 'test'")["id"]
    bare = [subject.removeprefix("sub-") for subject in subjects]
    return {str(int(name)) if name.isdecimal() else name for name in bare} == set(known)


def score(measures: dict[str, float]) -> float:
    """The challenge's score of the five mean measures.

    A value better than the best team's counts as 0 and one worse than the worst team's as 1.
    """
    distances = [
        (measures[metric] - best) / (worst - best)
        for metric, (best, worst) in BEST_AND_WORST.items()
    ]
    return float(np.mean(np.clip(distances, 0, 1)))


def rank(points: float) -> int:
    """Rank of a score among the published ones; 1 is the best."""
    return 1 + sum(published < points for published in PUBLISHED_SCORES)
