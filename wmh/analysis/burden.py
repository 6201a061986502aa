"""Lesion burden of white-matter regions, and how well two ways of measuring it agree.

The burden of a region is the lesion volume inside it: in ml, in percent of the region, and as a
share of all lesion volume. The burden table has one row a subject, source and region; ``source``
says whose lesions and regions were combined (``truth``, ``separate``, ``joint``, ``registered``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # which imports scipy.stats when it is asked for

from wmh.analysis.metrics import raise_unless_same_shape
from wmh.atlas.regions import REGION_LABELS, REGIONS, REST_LABELS

TRUTH = "truth"


def regional_burden(lesions: np.ndarray, regions: np.ndarray, voxel_ml: float) -> pd.DataFrame:
    """Burden of the 36 labels: one row a region.

    ``lesions`` (x, y, z) holds 1 where there is lesion (2, other pathology, is none), ``regions``
    the labels 0 to 36. ``share_of_lesions`` is of all lesion volume, also of that outside every
    region. ``percent_of_region`` is NaN for a region the image does not hold, and the share NaN
    when there is no lesion. Raises :class:`wmh.images.ImageError` when the shapes differ.
    """
    raise_unless_same_shape(lesions, regions)
    lesion = (lesions >= 0.5) & (lesions <= 1.5)
    labels = np.array([region.label for region in REGIONS])
    region_ml = np.bincount(regions.ravel(order="K"), minlength=37)[labels] * voxel_ml
    lesion_ml = np.bincount(regions[lesion], minlength=37)[labels] * voxel_ml
    all_ml = np.count_nonzero(lesion) * voxel_ml
    return pd.DataFrame(
        {
            "region": labels,
            "region_name": [region.name for region in REGIONS],
            "side": [region.side for region in REGIONS],
            "lesion_ml": lesion_ml,
            "region_ml": region_ml,
            "percent_of_region": 100 * lesion_ml / np.where(region_ml > 0, region_ml, np.nan),
            "share_of_lesions": lesion_ml / (all_ml if all_ml else np.nan),
        }
    )


def error_sources(
    true_lesions: np.ndarray,
    true_regions: np.ndarray,
    lesions: np.ndarray,
    regions: np.ndarray,
    voxel_ml: float,
) -> pd.DataFrame:
    """Which part of a burden's error comes from the lesions and which from the regions.

    One row a region: ``error_ml`` (prediction minus truth), ``from_lesions_ml``,
    ``from_regions_ml``. A part is what changes when truth is replaced by prediction on that side,
    averaged over both states of the other side (Shapley), so that the two add up to the error.
    """
    burden = {
        (lesion, region): regional_burden(
            lesions if lesion else true_lesions, regions if region else true_regions, voxel_ml
        )["lesion_ml"]
        for lesion in (False, True)
        for region in (False, True)
    }
    from_lesions = burden[True, False] - burden[False, False]
    from_lesions += burden[True, True] - burden[False, True]
    error = burden[True, True] - burden[False, False]
    return pd.DataFrame(
        {
            "region": [region.label for region in REGIONS],
            "error_ml": error,
            "from_lesions_ml": from_lesions / 2,
            "from_regions_ml": error - from_lesions / 2,
        }
    )


def profiles(burden: pd.DataFrame, source: str, quantity: str = "lesion_ml") -> pd.DataFrame:
    """Subjects (rows) by the 34 regions (columns) of one source, without the two rest labels."""
    rows = burden[(burden["source"] == source) & ~burden["region"].isin(REST_LABELS)]
    wide = rows.assign(subject=rows["subject"].astype(str)).pivot_table(
        index="subject", columns="region", values=quantity, dropna=False
    )
    return wide.reindex(columns=list(REGION_LABELS))


def paired_profiles(
    burden: pd.DataFrame, source: str, quantity: str = "lesion_ml"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Profiles of truth and of a source over the subjects that have both."""
    truth, other = profiles(burden, TRUTH, quantity), profiles(burden, source, quantity)
    both = truth.index.intersection(other.index)
    return truth.loc[both], other.loc[both]


AGREEMENT_COLUMNS = (
    *("source", "region", "n", "mean_truth_ml", "icc", "icc_low", "icc_high"),
    *("bias_ml", "limit_low_ml", "limit_high_ml"),
)


def agreement(burden: pd.DataFrame, source: str, alpha: float = 0.05) -> pd.DataFrame:
    """How well a source's burden (ml) agrees with the truth, for each region and in all.

    One row a region, and a last one, ``all``, for the sum over the 34: n, mean_truth_ml, ICC(A,1)
    with its interval, and Bland and Altman's bias and limits (ml).
    """
    truth, other = paired_profiles(burden, source)
    columns = {str(region): (truth[region], other[region]) for region in truth.columns}
    columns["all"] = (truth.sum(axis=1), other.sum(axis=1))
    rows = []
    for region, (true, found) in columns.items():
        icc = icc_agreement(true.to_numpy(), found.to_numpy(), alpha)
        limits = bland_altman(true.to_numpy(), found.to_numpy())
        rows.append((source, region, len(true), true.mean(), *icc, *limits))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def profile_correlation(burden: pd.DataFrame, source: str) -> pd.Series:
    """Spearman's correlation between true and found burden over the 34 regions, by subject.

    NaN for a subject without any lesion on either side.
    """
    truth, other = paired_profiles(burden, source)
    return pd.Series(
        [_spearman(truth.loc[subject], other.loc[subject]) for subject in truth.index],
        index=truth.index,
        name=source,
        dtype=float,
    )


def regional_icc(truth: np.ndarray, found: np.ndarray) -> float:
    """ICC(A,1) within regions; arrays (subjects, regions).

    Mean squares are summed over the regions before the ratio is taken. So differences between
    regions, which are large and known, do not count as agreement, and regions with hardly any
    lesion do not outweigh the others. With few subjects the mean of the regions' own ICCs lies
    well below what many subjects would show; this does not. NaN when nothing varies.
    """
    totals = (np.array([square.sum()]) for square in _mean_squares(truth, found))
    return float(_icc(*totals, len(truth))[0])


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval."""

    value: float
    low: float
    high: float

    def __iter__(self):
        return iter((self.value, self.low, self.high))


def icc_agreement(first: np.ndarray, second: np.ndarray, alpha: float = 0.05) -> Interval:
    """ICC(A,1): absolute agreement of single measurements, two-way (McGraw and Wong 1996).

    NaN for fewer than three subjects, or when no value differs from any other. The interval is NaN
    where the approximation of its degrees of freedom leaves next to none.
    """
    n, k = len(first), 2
    if n < 3:
        return Interval(*[float("nan")] * 3)
    rows, columns, error = (
        float(square[0]) for square in _mean_squares(first[:, None], second[:, None])
    )
    value = float(_icc(*(np.array([square]) for square in (rows, columns, error)), n)[0])
    if not np.isfinite(value) or (error == 0 and 0 in (rows, columns)):
        return Interval(value, value, value)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * columns + b * error) ** 2 / (
        (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    between = k * columns + (k * n - k - n) * error
    lower_f = scipy.stats.f.isf(alpha / 2, n - 1, freedom)
    upper_f = scipy.stats.f.isf(alpha / 2, freedom, n - 1)
    if not np.isfinite(lower_f):
        return Interval(value, float("nan"), float("nan"))
    low = n * (rows - lower_f * error) / (lower_f * between + n * rows)
    high = n * (upper_f * rows - error) / (between + n * upper_f * rows)
    return Interval(value, float(low), float(high))


def bland_altman(first: np.ndarray, second: np.ndarray) -> Interval:
    """Mean difference, second minus first, and the limits that hold 95 % of differences."""
    differences = second - first
    bias = float(differences.mean())
    half = (
        float(scipy.stats.norm.isf(0.025) * differences.std(ddof=1))
        if len(differences) > 1
        else 0.0
    )
    return Interval(bias, bias - half, bias + half)


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


def _icc(rows: np.ndarray, columns: np.ndarray, error: np.ndarray, n: int) -> np.ndarray:
    whole = rows + error + 2 * (columns - error) / n
    return (rows - error) / np.where(whole > 0, whole, np.nan)


def _spearman(first: pd.Series, second: pd.Series) -> float:
    if first.nunique() < 2 or second.nunique() < 2:  # a constant profile has no ranks
        return float("nan")
    return float(scipy.stats.spearmanr(first, second).statistic)
