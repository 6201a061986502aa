"""Agreement of predicted with true lesion volumes, for each region and in total."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy  # it imports scipy.stats only when that is used

from wmh.analysis.burden import paired_profiles, predicted_sources
from wmh.analysis.intervals import correlation_interval
from wmh.analysis.statistics import LESIONS, Configuration, subject_values
from wmh.cohorts.cohort import people_of

Interval = tuple[float, float, float]
"""An estimate with its interval, or a bias with its limits of agreement."""

NAN = float("nan")


def agreement(burden: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Agreement of every source's burden (ml) with the truth, for each region and in total.

    There is one row per repeat, source and region, and a row ``all`` for the sum over the 34. It
    holds n, mean_truth_ml, ICC(A,1) with its interval, and Bland and Altman's bias and limits (ml).
    Sessions of one person count as subjects here; with many of them the interval is too narrow.
    """
    rows = []
    for repeat, table in burden.groupby("repeat"):
        for source in predicted_sources(burden):
            truth, found = (
                profile.assign(all=profile.sum(axis=1))
                for profile in paired_profiles(table, source)
            )
            for region in truth:
                pair = truth[region].to_numpy(), found[region].to_numpy()
                numbers = (truth[region].mean(), *icc_agreement(*pair, alpha), *bland_altman(*pair))
                rows.append((source, str(region), len(truth), *numbers, repeat))
    names = ["source", "region", "n", "mean_truth_ml", "icc", "icc_low", "icc_high"]
    names += ["bias_ml", "limit_low_ml", "limit_high_ml", "repeat"]
    return pd.DataFrame(rows, columns=names)


def agreement_summary(burden: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Agreement of each source over all regions, averaged over the repeats of a study.

    One row per source: n; ``icc`` within regions with its interval; ``profile_correlation`` (the
    rank correlation over the 34 regions of a subject, median over subjects) and its quartiles.
    """
    rows = []
    for source in predicted_sources(burden):
        n, icc = icc_within_regions(burden, source, alpha)
        by_repeat = [profile_correlation(one, source) for _, one in burden.groupby("repeat")]
        within = pd.concat(by_repeat, axis=1).mean(axis=1)
        rows.append((source, n, *icc, *within.quantile([0.5, 0.25, 0.75])))
    names = ["source", "n", "icc", "ci_low", "ci_high"]
    names += ["profile_correlation", "lower_quartile", "upper_quartile"]
    return pd.DataFrame(rows, columns=names)


def volume_agreement(
    metrics: pd.DataFrame, configurations: Sequence[Configuration], alpha: float = 0.05
) -> pd.DataFrame:
    """Agreement of each subject's total lesion volume with the truth.

    One row per configuration: n, mean_truth_ml, Bland and Altman's bias and limits (ml), Spearman's
    ``rho`` (NaN if true or found volumes are equal for all), and ICC(A,1) with its interval. Each
    number is computed for single trainings and averaged over repeats, because averaged volumes
    would agree better than those of any training.
    """
    rows = []
    for configuration in configurations:
        of_repeats = []
        for _, repeat in metrics.groupby("repeat"):
            true, found = (
                subject_values(repeat, LESIONS, f"volume_{side}_ml", configuration).to_numpy()
                for side in ("truth", "prediction")
            )
            limits, icc = bland_altman(true, found), icc_agreement(true, found, alpha)
            varies = len(true) > 1 and np.ptp(true) > 0 and np.ptp(found) > 0
            rho = float(scipy.stats.spearmanr(true, found).statistic) if varies else np.nan
            of_repeats.append((true.mean(), *limits, rho, *icc))
        side = (configuration.model, configuration.given)
        rows.append((*side, len(true), *np.mean(of_repeats, axis=0)))
    names = ["model", "inputs_given", "n", "mean_truth_ml"]
    names += ["bias_ml", "limit_low_ml", "limit_high_ml", "rho", "icc", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=names)


def profile_correlation(burden: pd.DataFrame, source: str) -> pd.Series:
    """Spearman's correlation between true and found burden over the 34 regions, by subject.

    It is NaN for a subject whose true or found burden is the same in all regions, such as 0.
    """
    truth, found = paired_profiles(burden, source)
    varies = np.minimum(np.ptp(truth, axis=1), np.ptp(found, axis=1)) > 0
    rho = [
        scipy.stats.spearmanr(truth.loc[subject], found.loc[subject]).statistic if known else np.nan
        for subject, known in zip(truth.index, varies, strict=True)
    ]
    return pd.Series(rho, index=truth.index, name=source, dtype=float)


def icc_within_regions(
    burden: pd.DataFrame, source: str, alpha: float = 0.05
) -> tuple[int, Interval]:
    """Number of people, and :func:`regional_icc` averaged over repeats, with jackknife interval.

    The interval is NaN for fewer than three people.
    """
    profiles = [paired_profiles(one, source) for _, one in burden.groupby("repeat")]
    pairs = [(truth.to_numpy(), found.to_numpy()) for truth, found in profiles]
    people, limits = people_of(profiles[0][0].index.to_series()).to_numpy(str), (NAN, NAN)

    def mean_icc(drawn: np.ndarray) -> float:
        return float(np.mean([regional_icc(true[drawn], found[drawn]) for true, found in pairs]))

    if len(set(people)) > 2:
        limits = correlation_interval(mean_icc, people, alpha)
    return len(set(people)), (mean_icc(np.arange(len(people))), *limits)


def regional_icc(truth: np.ndarray, found: np.ndarray) -> float:
    """ICC(A,1) within regions; arrays (subjects, regions).

    Mean squares are summed over the regions before the ratio is taken. Therefore differences
    between regions, which are large and known, do not count as agreement, and regions with hardly
    any lesion do not dominate. With few subjects, the mean of the regions' own ICCs would be far
    too low; this value is not. NaN if nothing varies.
    """
    return _icc(*(float(square.sum()) for square in _mean_squares(truth, found)), len(truth))


def icc_agreement(first: np.ndarray, second: np.ndarray, alpha: float = 0.05) -> Interval:
    """ICC(A,1): absolute agreement of single measurements, two-way (McGraw and Wong 1996).

    NaN for fewer than three subjects, or if all values are equal. The interval is NaN if the
    approximation of its degrees of freedom is close to zero.
    """
    n, k = len(first), 2
    if n < 3:
        return NAN, NAN, NAN
    rows, columns, error = (
        float(square[0]) for square in _mean_squares(first[:, None], second[:, None])
    )
    value = _icc(rows, columns, error, n)
    if not np.isfinite(value) or (error == 0 and 0 in (rows, columns)):
        return value, value, value
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * columns + b * error) ** 2 / (
        (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    between = k * columns + (k * n - k - n) * error
    lower_f = scipy.stats.f.isf(alpha / 2, n - 1, freedom)
    upper_f = scipy.stats.f.isf(alpha / 2, freedom, n - 1)
    if not np.isfinite(lower_f):
        return value, NAN, NAN
    low = n * (rows - lower_f * error) / (lower_f * between + n * rows)
    high = n * (upper_f * rows - error) / (between + n * upper_f * rows)
    return value, float(low), float(high)


def bland_altman(first: np.ndarray, second: np.ndarray) -> Interval:
    """Mean difference (second minus first), and the limits that contain 95 % of differences."""
    differences = second - first
    bias = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    half = float(scipy.stats.norm.isf(0.025)) * spread
    return bias, bias - half, bias + half


def _mean_squares(
    first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of subjects, measurements and error of each column, arrays (n, columns)."""
    n = len(first)
    if n < 2:
        return tuple(np.full((3, *first.shape[1:]), np.nan))
    grand = (first + second).mean(axis=0) / 2
    rows = 2 * np.sum(((first + second) / 2 - grand) ** 2, axis=0) / (n - 1)
    half_bias = (first - second).mean(axis=0) / 2
    columns = 2 * n * half_bias**2
    error = np.sum(((first - second) / 2 - half_bias) ** 2, axis=0) * 2 / (n - 1)
    return rows, columns, error


def _icc(rows: float, columns: float, error: float, n: int) -> float:
    whole = rows + error + 2 * (columns - error) / n
    return (rows - error) / whole if whole > 0 else NAN
