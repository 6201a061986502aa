"""How models do on scanners without training subjects, and on people with few or many lesions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import scipy

from wmh.analysis.intervals import difference_interval
from wmh.analysis.statistics import Configuration, holm, scanner_of, values_table
from wmh.cohorts.cohort import people_of
from wmh.settings import Evaluation


def seen_and_unseen(
    metrics: pd.DataFrame,
    structure: str,
    metric: str,
    configurations: Sequence[Configuration],
    seen: Collection[str],
    settings: Evaluation,
    seed: int,
) -> pd.DataFrame:
    """Compare subjects of the training scanners (``seen``) with those of all other scanners.

    One row per configuration: group sizes and means, the difference (unseen minus seen) with its
    interval, p of the Mann-Whitney test, and p corrected by Holm over the configurations.
    Difference, interval and p are NaN if a group has fewer than two subjects.
    """
    rows, scanner = [], scanner_of(metrics)
    for configuration, column in values_table(metrics, structure, metric, configurations).items():
        subjects = column.dropna()
        scanners, values = scanner[subjects.index], subjects.to_numpy()
        is_seen = scanners.isin(list(seen)).to_numpy()
        new, old = values[~is_seen], values[is_seen]
        gap, low, high, p = [float("nan")] * 4
        if min(len(new), len(old)) > 1:
            low, high = difference_interval(values, is_seen, scanners, settings, seed)
            gap, p = new.mean() - old.mean(), float(scipy.stats.mannwhitneyu(new, old).pvalue)
        about = (configuration.model, configuration.given, structure, metric, len(old), len(new))
        means = subjects[is_seen].mean(), subjects[~is_seen].mean()
        rows.append((*about, *means, gap, low, high, p))
    columns = ["model", "inputs_given", "structure", "metric", "n_seen", "n_unseen", "mean_seen"]
    columns += ["mean_unseen", "mean_difference", "ci_low", "ci_high", "p_mann_whitney"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p_mann_whitney"]))


def load_dependence(
    metrics: pd.DataFrame,
    structure: str,
    metric: str,
    configurations: Sequence[Configuration],
    lesion_ml: pd.Series,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Spearman's correlation of a measure with the lesion load (true volume in ml by subject).

    One row per configuration, with Bonett and Wright's (2000) interval, p, and p corrected by Holm
    over the configurations. p is at least 2 / n!, the probability of a perfect order or its reverse
    by chance. There is no correlation (NaN) if all values are equal.
    """
    volumes = lesion_ml.groupby(people_of(lesion_ml.index.to_series())).mean()
    rows = []
    for configuration, column in values_table(metrics, structure, metric, configurations).items():
        values = column.dropna()
        rho = p = float("nan")
        if len(set(values)) > 1:
            rho, p = scipy.stats.spearmanr(values, volumes[values.index])
            p = max(p, 2 / math.factorial(len(values)))
        interval = spearman_interval(rho, len(values), alpha)
        about = (configuration.model, configuration.given, structure, metric)
        rows.append((*about, len(values), rho, *interval, p))
    columns = ["model", "inputs_given", "structure", "metric", "n", "rho", "ci_low", "ci_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p"]))


def spearman_interval(rho: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Interval of a rank correlation by Fisher's z; NaN for fewer than four subjects."""
    if n < 4:
        return float("nan"), float("nan")
    half = scipy.stats.norm.ppf(1 - alpha / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))
