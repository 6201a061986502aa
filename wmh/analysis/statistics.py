"""Comparisons of models on the same subjects, from the tidy table of measures.

Every test belongs to a family, and Holm's correction is made within a family. The repeats of a
study (column ``repeat``) are first averaged for each subject, and the sessions of a person
likewise, so that the sample consists of people and not of trainings or visits. ``repeat_sd``, the
standard deviation over repeats of the mean over subjects, shows how far the repeats lie apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import scipy

from wmh.analysis.intervals import mean_interval
from wmh.analysis.metrics import FIVE_MEASURES
from wmh.cohorts.cohort import people_of
from wmh.learning.inputs import CONFIGURATIONS
from wmh.settings import Evaluation

LESIONS, REGIONS_MEAN = "lesions", "regions_mean"


@dataclass(frozen=True)
class Configuration:
    """A model and the images it is given: ``FLAIR``, ``T1`` or ``FLAIR+T1``."""

    model: str
    given: str

    def __str__(self) -> str:
        return f"{self.model} ({self.given})"


@dataclass(frozen=True)
class Comparison:
    """One paired comparison, a minus b, and the family in which its p-value is corrected."""

    family: str
    structure: str
    metric: str
    a: Configuration
    b: Configuration


FLAIR, T1, CONCATENATED, DROPOUT, INTERCHANGEABLE = (
    Configuration(inputs, CONFIGURATIONS[inputs].can_be_given[-1])
    for inputs in ("flair", "t1", "flair_t1", "flair_t1_dropout", "interchangeable")
)
PAPER_CONFIGURATIONS = (FLAIR, T1, CONCATENATED, INTERCHANGEABLE)
"""The models of the paper's four input configurations, each given all images it was trained with.
"""


def joint_and_alone(joint_inputs: str) -> tuple[Configuration, Configuration, Configuration]:
    """The joint model trained with ``joint_inputs``, and the separate lesion and region models.

    All three are given as many images as the joint model can use.
    """
    given = CONFIGURATIONS[joint_inputs].can_be_given[-1]
    joint, lesions, regions = (
        Configuration(model, given) for model in ("multitask", joint_inputs, "regions")
    )
    return joint, lesions, regions


def planned_comparisons(
    metrics: pd.DataFrame, joint_inputs: str = "interchangeable"
) -> list[Comparison]:
    """The study's comparisons in three families, as far as both sides were measured.

    The joint model is compared with the lesion model that has the same inputs, ``joint_inputs``.
    """
    joint, lesions_alone, regions_alone = joint_and_alone(joint_inputs)
    families = {
        "input configurations": list(combinations(PAPER_CONFIGURATIONS, 2)),
        "missing modality": [
            (Configuration(able.model, alone.given), other)
            for alone in (FLAIR, T1)
            for able in (INTERCHANGEABLE, DROPOUT)
            for other in (Configuration(CONCATENATED.model, alone.given), alone)
        ],
        "joint model": [(joint, lesions_alone)],
    }
    planned = [
        Comparison(family, LESIONS, metric, a, b)
        for family, pairs in families.items()
        for a, b in pairs
        for metric in FIVE_MEASURES
    ]
    planned.append(Comparison("joint model", REGIONS_MEAN, "dice", joint, regions_alone))
    return [
        one
        for one in planned
        if all(len(subject_values(metrics, one.structure, one.metric, c)) for c in (one.a, one.b))
    ]


def compare(
    metrics: pd.DataFrame, comparisons: Sequence[Comparison], settings: Evaluation, seed: int
) -> pd.DataFrame:
    """Paired comparisons: one row each, with interval, effect size and p-values.

    ``metrics`` is the tidy table, ``seed`` is for the bootstrap. Subjects without a value on one
    side (such as a distance, if nothing was predicted) are left out and counted in ``n_missing``.
    """
    rows = []
    for one in comparisons:
        pairs = paired_values(metrics, one)
        both = pairs.dropna(subset=["a", "b"])
        differences = (both["a"] - both["b"]).to_numpy()
        means = both["a"].mean(), both["b"].mean()
        low, high = mean_interval(differences, both["scanner"], settings, seed)
        of_repeats = [paired_values(repeat, one) for _, repeat in metrics.groupby("repeat")]
        by_repeat = pd.Series([(repeat["a"] - repeat["b"]).mean() for repeat in of_repeats])
        rows.append(
            (
                *(one.family, one.structure, one.metric),
                *(one.a.model, one.a.given, one.b.model, one.b.given),
                *(len(both), *means, means[0] - means[1], low, high),
                *(rank_biserial(differences), wilcoxon_p(differences), np.nan),
                *(len(pairs) - len(both), len(by_repeat), by_repeat.std()),
            )
        )
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    table["p_holm"] = table.groupby("family")["p_wilcoxon"].transform(holm)
    return table


COMPARISON_COLUMNS = [
    *("family", "structure", "metric", "model_a", "inputs_a", "model_b", "inputs_b"),
    *("n", "mean_a", "mean_b", "mean_difference", "ci_low", "ci_high"),
    *("rank_biserial", "p_wilcoxon", "p_holm", "n_missing", "repeats", "repeat_sd"),
]


def means(metrics: pd.DataFrame, settings: Evaluation, seed: int) -> pd.DataFrame:
    """Mean, standard deviation and interval of every measure of every configuration.

    Columns: model, inputs_given, structure, metric, n, n_missing, mean, sd (over subjects), ci_low,
    ci_high, repeats, repeat_sd.
    """
    keys = ["model", "inputs_given", "structure", "metric"]
    rows = []
    for key, group in metrics.groupby(keys, sort=False):
        values = people_means(group)
        known = values.dropna()
        interval = mean_interval(known.to_numpy(), scanner_of(group)[known.index], settings, seed)
        numbers = (len(known), len(values) - len(known), known.mean(), known.std(), *interval)
        of_repeats = [people_means(repeat) for _, repeat in group.groupby("repeat")]
        by_repeat = pd.Series([repeat.mean() for repeat in of_repeats])
        rows.append((*key, *numbers, len(by_repeat), by_repeat.std()))
    numbers = ["n", "n_missing", "mean", "sd", "ci_low", "ci_high", "repeats", "repeat_sd"]
    return pd.DataFrame(rows, columns=[*keys, *numbers])


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of several configurations on the same subjects.

    In ``mean_ranks``, rank 1 is the smallest value. ``posthoc`` holds Nemenyi's (1963) p of every
    pair.
    """

    n: int
    statistic: float
    p: float
    kendall_w: float
    mean_ranks: pd.Series
    posthoc: pd.DataFrame


def friedman(
    metrics: pd.DataFrame, structure: str, metric: str, configurations: Sequence[Configuration]
) -> Friedman:
    """Test whether three or more configurations differ, and which pairs of them (Nemenyi)."""
    values = values_table(metrics, structure, metric, configurations).rename(columns=str).dropna()
    n, k = values.shape
    with np.errstate(invalid="ignore"):  # the result is NaN if all ranks are tied
        statistic, p = scipy.stats.friedmanchisquare(*values.to_numpy().T)
    ranks = values.rank(axis=1).mean()
    unit = np.sqrt(k * (k + 1) / (12 * n))
    posthoc = pd.DataFrame(
        [
            (
                *(a, b, ranks[a] - ranks[b]),
                float(scipy.stats.studentized_range.sf(abs(ranks[a] - ranks[b]) / unit, k, np.inf)),
            )
            for a, b in combinations(values.columns, 2)
        ],
        columns=["a", "b", "rank_difference", "p_nemenyi"],
    )
    return Friedman(n, float(statistic), float(p), float(statistic / (n * (k - 1))), ranks, posthoc)


def wilcoxon_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of paired differences.

    Zero differences are left out, as by Wilcoxon. SciPy chooses the distribution: exact for up to
    50 subjects (up to 13 with ties or zeros), otherwise normal with tie correction. The result is 1
    if all differences are zero.
    """
    if not len(differences):
        return float("nan")
    if not differences.any():
        return 1.0
    return float(scipy.stats.wilcoxon(differences).pvalue)


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): -1 if b is always larger, 1 if a is."""
    differences = differences[differences != 0]
    if not len(differences):
        return float("nan")
    ranks = scipy.stats.rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def holm(p_values: Sequence[float] | pd.Series) -> np.ndarray:
    """Holm's (1979) step-down adjusted p-values; NaN (no test) does not count in the family."""
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    adjusted = np.array(p_values, dtype=float)
    done = ~np.isnan(adjusted)
    if done.any():
        adjusted[done] = multipletests(adjusted[done], method="holm")[1]
    return adjusted


def measured(
    metrics: pd.DataFrame, configurations: Sequence[Configuration] = PAPER_CONFIGURATIONS
) -> list[Configuration]:
    """The configurations that have lesion measures in the table."""
    return [c for c in configurations if len(subject_values(metrics, LESIONS, "dice", c))]


def subject_values(
    metrics: pd.DataFrame, structure: str, metric: str, configuration: Configuration
) -> pd.Series:
    """One value per person: the mean over repeats and sessions; NaN if one of them has no value."""
    rows = metrics[
        (metrics["structure"] == structure)
        & (metrics["metric"] == metric)
        & (metrics["model"] == configuration.model)
        & (metrics["inputs_given"] == configuration.given)
    ]
    return people_means(rows)


def people_means(rows: pd.DataFrame) -> pd.Series:
    """Mean value of each person's rows, NaN when one of them is."""
    return rows.groupby(people_of(rows["subject"]))["value"].mean(skipna=False)


def values_table(
    metrics: pd.DataFrame, structure: str, metric: str, configurations: Sequence[Configuration]
) -> pd.DataFrame:
    """:func:`subject_values` of several configurations (columns) by subject; NaN if missing."""
    return pd.DataFrame(
        {c: subject_values(metrics, structure, metric, c) for c in configurations}, dtype=float
    )


def paired_values(metrics: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Columns a, b and scanner for the subjects (index) of both sides of a comparison."""
    sides = (comparison.a, comparison.b)
    values = values_table(metrics, comparison.structure, comparison.metric, sides)
    return values.set_axis(["a", "b"], axis="columns").join(scanner_of(metrics), how="left")


def scanner_of(metrics: pd.DataFrame) -> pd.Series:
    """The scanner of each person; of several sessions, that of the first."""
    return metrics.groupby(people_of(metrics["subject"]))["scanner"].first()
