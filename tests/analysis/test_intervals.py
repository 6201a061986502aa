"""Bootstrap intervals against SciPy's, and against what stratifying must do."""

import numpy as np
import pytest
from scipy import stats

from wmh.analysis.intervals import (
    bca_interval,
    correlation_interval,
    difference_interval,
    mean_interval,
    resample,
)
from wmh.settings import Evaluation

RNG = np.random.default_rng(3)
SKEWED = RNG.exponential(size=40)
ONE_SCANNER = ["a"] * 40


def samples(count: int, **more: float) -> Evaluation:
    return Evaluation(bootstrap_samples=count, **more)


def test_one_scanner_gives_scipys_bca():
    expected = stats.bootstrap(
        (SKEWED,), np.mean, n_resamples=60_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    found = mean_interval(SKEWED, ONE_SCANNER, samples(60_000), seed=1)
    assert found == pytest.approx(tuple(expected), abs=0.02 * (expected[1] - expected[0]))


def test_bca_leans_to_the_long_tail():
    low, high = mean_interval(SKEWED, ONE_SCANNER, samples(20_000), seed=1)
    plain = np.quantile(SKEWED[resample(ONE_SCANNER, 20_000, 1)].mean(axis=1), [0.025, 0.975])
    assert low > plain[0]
    assert high > plain[1]


def test_without_bias_or_skew_bca_is_the_percentile_interval():
    resampled = np.linspace(-1, 1, 10_001)
    found = bca_interval(0.0, resampled, np.array([-1.0, 1.0]))
    assert found == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=1e-3)


def test_every_resample_keeps_the_number_of_each_scanner():
    scanners = np.array(["a"] * 6 + ["b"] * 9)
    drawn = scanners[resample(scanners, 200, seed=0)]
    assert ((drawn == "a").sum(axis=1) == 6).all()
    assert len(np.unique(resample(scanners, 200, 0)[:, 0])) == 6


def test_scanners_with_few_subjects_are_resampled_together():
    scanners = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 3)
    drawn = resample(scanners, 500, seed=0)
    assert set(drawn[:, 0]) == set(range(5))
    assert set(drawn[:, 6]) == set(range(5, 11))


def test_strata_take_out_what_lies_between_scanners():
    values = np.concatenate([RNG.normal(0, 1, 20), RNG.normal(50, 1, 20)])
    scanners = ["a"] * 20 + ["b"] * 20
    low, high = mean_interval(values, scanners, samples(5000), seed=0)
    pooled_low, pooled_high = mean_interval(values, ONE_SCANNER, samples(5000), seed=0)
    assert high - low < 1
    assert pooled_high - pooled_low > 10


def test_same_seed_same_interval():
    first, again, other = (
        mean_interval(SKEWED, ONE_SCANNER, samples(500), seed) for seed in (4, 4, 5)
    )
    assert first == again != other


def test_a_wider_alpha_gives_a_narrower_interval():
    low, high = mean_interval(SKEWED, ONE_SCANNER, samples(5000), 0)
    narrow_low, narrow_high = mean_interval(SKEWED, ONE_SCANNER, samples(5000, alpha=0.5), 0)
    assert low < narrow_low < narrow_high < high


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval(np.full(6, 0.25), ["a"] * 6, samples(100), 0) == (0.25, 0.25)


def test_few_subjects_are_not_resampled_among_themselves():
    """Two of a second scanner would show half of their variance: they join the first's ten."""
    scanners = ["a"] * 10 + ["b"] * 2
    drawn = resample(scanners, 2000, seed=0)
    assert set(np.unique(drawn[:, -1])) == set(range(12))
    far = np.where(np.arange(12) == 11, 12.0, 0.0)
    assert far[drawn].mean(axis=1).std() == pytest.approx(far.std() / np.sqrt(12), rel=0.1)
    assert mean_interval(SKEWED[:12], scanners, samples(2000), 0) == mean_interval(
        SKEWED[:12], ["a"] * 12, samples(2000), 0
    )
    enough = resample(["a"] * 10 + ["b"] * 5, 200, seed=0)
    assert enough[:, 10:].min() == 10


def test_correlation_interval_covers_about_as_often_as_it_says():
    normal = RNG.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (300, 30))
    covered = 0
    for sample in normal:
        low, high = correlation_interval(
            lambda at, s=sample: np.corrcoef(s[at].T)[0, 1], np.arange(30)
        )
        covered += low < 0.6 < high
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


def test_a_perfect_correlation_has_an_interval_of_no_width():
    assert correlation_interval(lambda at: 1.0, np.arange(5)) == (1.0, 1.0)
    assert np.isnan(correlation_interval(lambda at: np.nan, np.arange(5))).all()


def test_a_second_session_alike_says_no_more_of_people():
    once = RNG.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 12)
    twice = np.concatenate([once, once])
    intervals = [
        correlation_interval(lambda at, v=values: np.corrcoef(v[at].T)[0, 1], people)
        for values, people in ((once, np.arange(12)), (twice, np.tile(np.arange(12), 2)))
    ]
    assert intervals[1] == pytest.approx(intervals[0])


def test_difference_of_two_groups_against_scipy():
    first, second = RNG.exponential(size=30), RNG.exponential(2, size=25)
    expected = stats.bootstrap(
        (first, second),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        n_resamples=40_000,
        method="BCa",
        rng=np.random.default_rng(0),
        vectorized=True,
    ).confidence_interval
    values = np.concatenate([first, second])
    in_second = np.arange(55) >= 30
    found = difference_interval(values, in_second, ["a"] * 55, samples(40_000), seed=1)
    assert found == pytest.approx(tuple(expected), abs=0.04 * (expected[1] - expected[0]))


def test_the_groups_of_a_difference_are_drawn_independently():
    group = RNG.normal(size=20)  # equal groups: drawn alike, their difference would never vary
    values, in_second = np.concatenate([group, group]), np.arange(40) >= 20
    low, high = difference_interval(values, in_second, ["a"] * 40, samples(2000), seed=0)
    expected = 2 * 1.96 * np.sqrt(2 * group.var() / 20)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_nothing_known_gives_nothing():
    assert np.isnan(bca_interval(np.nan, np.ones(5), np.ones(5))).all()
    assert np.isnan(mean_interval(np.ones(1), ["a"], samples(10), seed=0)).all()
