"""Does a model hold up on scanners it has not seen, and on people with few or many lesions?"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from wmh.analysis.intervals import difference_interval
from wmh.analysis.statistics import Configuration, holm, scanner_of, subject_values
from wmh.settings import Evaluation

GAP = ("mean_difference", "ci_low", "ci_high", "p_mann_whitney")


def seen_and_unseen(
    metrics: pd.DataFrame,
    structure: str,
    metric: str,
    configurations: Sequence[Configuration],
    seen: Collection[str],
    settings: Evaluation,
    seed: int,
) -> pd.DataFrame:
    """Subjects of the scanners trained on (``seen``) against those of all others.

    One row a configuration: group sizes and means, their difference (unseen minus seen) with its
    interval, p of the Mann-Whitney test, and p corrected by Holm over the configurations.
    """
    rows = []
    for configuration in configurations:
        values = subject_values(metrics, structure, metric, configuration).dropna()
        scanners = scanner_of(metrics)[values.index]
        is_seen = scanners.isin(list(seen)).to_numpy()
        unseen_values, seen_values = values[~is_seen], values[is_seen]
        row = {
            "model": configuration.model,
            "inputs_given": configuration.given,
            "structure": structure,
            "metric": metric,
            "n_seen": len(seen_values),
            "n_unseen": len(unseen_values),
            "mean_seen": seen_values.mean(),
            "mean_unseen": unseen_values.mean(),
        }
        rows.append(row | _gap(values.to_numpy(), is_seen, scanners.to_numpy(), settings, seed))
    sizes = ["n_seen", "n_unseen", "mean_seen", "mean_unseen"]
    columns = ["model", "inputs_given", "structure", "metric", *sizes, *GAP]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p_mann_whitney"])
    return table


def load_dependence(
    metrics: pd.DataFrame,
    structure: str,
    metric: str,
    configurations: Sequence[Configuration],
    lesion_ml: pd.Series,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Spearman's correlation of a measure with the true lesion volume (ml, by subject).

    One row a configuration, with Bonett and Wright's (2000) interval, p, and p corrected by Holm
    over the configurations.
    """
    volumes = lesion_ml.set_axis(lesion_ml.index.astype(str))
    rows = []
    for configuration in configurations:
        values = subject_values(metrics, structure, metric, configuration).dropna()
        rho, p = stats.spearmanr(values, volumes[values.index])
        low, high = spearman_interval(rho, len(values), alpha)
        rows.append((*_sides(configuration), structure, metric, len(values), rho, low, high, p))
    columns = ["model", "inputs_given", "structure", "metric", "n", "rho", "ci_low", "ci_high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm(table["p"])
    return table


def spearman_interval(rho: float, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Interval of a rank correlation through Fisher's z; NaN for fewer than four subjects."""
    if n < 4:
        return float("nan"), float("nan")
    half = stats.norm.ppf(1 - alpha / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _gap(
    values: np.ndarray, is_seen: np.ndarray, scanners: np.ndarray, settings: Evaluation, seed: int
) -> dict[str, float]:
    """Unseen minus seen; NaN when either group has fewer than two subjects."""
    if min(is_seen.sum(), (~is_seen).sum()) < 2:
        return dict.fromkeys(GAP, float("nan"))
    low, high = difference_interval(
        values, is_seen, scanners, settings.bootstrap_samples, seed, settings.alpha
    )
    return {
        "mean_difference": values[~is_seen].mean() - values[is_seen].mean(),
        "ci_low": low,
        "ci_high": high,
        "p_mann_whitney": float(stats.mannwhitneyu(values[~is_seen], values[is_seen]).pvalue),
    }


def _sides(configuration: Configuration) -> tuple[str, str]:
    return configuration.model, configuration.given
