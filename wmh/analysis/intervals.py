"""Bootstrap intervals of statistics over subjects, resampled within scanners.

Subjects of one scanner are similar, so each scanner keeps its share in every resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from wmh.settings import Evaluation

SMALLEST_STRATUM = 5
"""Scanners with fewer subjects are resampled together. Resampling n subjects among themselves shows
only (n - 1) / n of their variance: for three subjects, a third too little."""


def resample(scanners: Sequence[str], samples: int, seed: int | list[int]) -> np.ndarray:
    """Indices of ``samples`` resamples of the subjects, shape (samples, subjects).

    Each index is drawn, with replacement, from the subjects with the same scanner.
    """
    generator = np.random.default_rng(seed)
    strata = _strata(scanners)
    drawn = np.empty((samples, len(strata)), dtype=np.intp)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn[:, members] = generator.choice(members, (samples, len(members)))
    return drawn


def mean_interval(
    values: np.ndarray, scanners: Sequence[str], settings: Evaluation, seed: int
) -> tuple[float, float]:
    """BCa interval of the mean of one value per subject; NaN for fewer than two subjects."""
    if len(values) < 2:
        return float("nan"), float("nan")
    resampled = values[resample(scanners, settings.bootstrap_samples, seed)].mean(axis=1)
    return bca_interval(values.mean(), resampled, _centred(values, scanners), settings.alpha)


def difference_interval(
    values: np.ndarray,
    in_second: np.ndarray,
    scanners: Sequence[str],
    settings: Evaluation,
    seed: int,
) -> tuple[float, float]:
    """BCa interval of the mean of one group of subjects minus the mean of the others.

    ``in_second`` (booleans) marks the group whose mean is subtracted.
    """
    resampled, influence = np.zeros(settings.bootstrap_samples), np.empty(len(values))
    estimate = 0.0
    for inside, sign in ((~in_second, 1), (in_second, -1)):
        group, strata = values[inside], np.asarray(scanners)[inside]
        drawn = resample(strata, len(resampled), [seed, sign + 1])  # independent of the other group
        resampled += sign * group[drawn].mean(axis=1)
        influence[inside] = sign * _centred(group, strata) / len(group)
        estimate += sign * group.mean()
    return bca_interval(estimate, resampled, influence, settings.alpha)


def correlation_interval(
    statistic: Callable[[np.ndarray], float], people: np.ndarray, alpha: float = 0.05
) -> tuple[float, float]:
    """Jackknife interval, on Fisher's z scale, of a correlation over subjects.

    ``statistic`` takes the indices of subjects, and ``people`` (one name per subject) says who each
    of them is: one person at a time is left out, with all sessions. A bootstrap would be biased for
    an intraclass correlation, because copies of a subject agree with each other; leaving out makes
    no copies. In simulations with skewed burdens (15 to 110 subjects), a nominal 95 % interval
    contained the true value in 73 to 87 % of cases by bootstrap, and in 83 to 90 % by this method.
    """
    everyone = np.arange(len(people))
    estimate = statistic(everyone)
    if not np.isfinite(estimate) or estimate >= 1:
        return float(estimate), float(estimate)
    names = np.unique(people)
    without = np.arctanh([statistic(everyone[people != name]) for name in names])
    spread = np.sum((without - without.mean()) ** 2) * (len(names) - 1) / len(names)
    half = stdtrit(len(names) - 1, 1 - alpha / 2) * np.sqrt(spread)
    return float(np.tanh(np.arctanh(estimate) - half)), float(np.tanh(np.arctanh(estimate) + half))


def bca_interval(
    estimate: float, resampled: np.ndarray, influence: np.ndarray, alpha: float = 0.05
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987).

    ``influence`` is each subject's influence on the estimate, up to a common factor. With strata it
    is measured from the stratum's mean (Davison and Hinkley 1997, section 5.3).
    """
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(estimate) or not len(resampled):
        return float("nan"), float("nan")
    if np.ptp(resampled) == 0:
        return float(estimate), float(estimate)
    below = np.mean(resampled < estimate) + np.mean(resampled == estimate) / 2
    smallest = 1 / (len(resampled) + 1)
    bias = ndtri(np.clip(below, smallest, 1 - smallest))
    spread = np.sum(influence**2) ** 1.5
    acceleration = np.sum(influence**3) / (6 * spread) if spread else 0.0
    shifted = bias + ndtri([alpha / 2, 1 - alpha / 2])
    low, high = np.quantile(resampled, ndtr(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def _strata(scanners: Sequence[str]) -> np.ndarray:
    """The stratum of each subject: its scanner, or ``"few"`` if the scanner has few subjects.

    If these are few even together, the smallest of the other scanners joins them.
    """
    scanners = np.asarray(scanners, dtype=str)
    names, counts = np.unique(scanners, return_counts=True)
    few = counts < SMALLEST_STRATUM
    if 0 < counts[few].sum() < SMALLEST_STRATUM and not few.all():
        few |= counts == counts[~few].min()
    large = set(names[~few])
    return np.array([name if name in large else "few" for name in scanners])


def _centred(values: np.ndarray, scanners: Sequence[str]) -> np.ndarray:
    """Values minus the mean of their stratum."""
    strata = _strata(scanners)
    centred = np.empty(len(values))
    for stratum in np.unique(strata):
        inside = strata == stratum
        centred[inside] = values[inside] - values[inside].mean()
    return centred
