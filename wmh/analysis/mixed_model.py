"""A linear mixed model of a measure: configuration, scanner, their interaction, random subjects.

It answers what paired tests cannot: whether the difference between models depends on the scanner.
With subjects as the only random effect the likelihood is a function of one number, the ratio of
the subjects' variance to the residual one, and is maximized as such (the model of R's
``lmer(value ~ configuration * scanner + (1 | subject))``). General fitters stop with a singular
matrix when subjects hardly differ; here that ratio is simply 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from wmh.analysis.statistics import Configuration, scanner_of, subject_values

CONCERN_P = 0.01
"""Diagnostics with a p-value below this are put into words."""


@dataclass(frozen=True)
class MixedModel:
    """A fitted model.

    ``effects``: one row a fixed effect with estimate, interval and p. ``tests``: likelihood-ratio
    tests of whole terms. ``subject_sd`` and ``residual_sd`` are in the measure's own units.
    ``diagnostics``: what to look at before believing the rest; ``concerns`` says it in words.
    """

    effects: pd.DataFrame
    tests: pd.DataFrame
    subject_sd: float
    residual_sd: float
    n_values: int
    n_subjects: int
    diagnostics: dict[str, float]
    concerns: list[str]


def fit_mixed_model(
    metrics: pd.DataFrame,
    structure: str,
    metric: str,
    configurations: Sequence[Configuration],
    alpha: float = 0.05,
) -> MixedModel:
    """Fit ``value ~ configuration * scanner + (1 | subject)``.

    The first configuration is the reference. Scanners are sum-coded, so that a configuration's
    effect is its difference from the reference averaged over scanners. Effects and variances come
    from restricted maximum likelihood, tests of terms from maximum likelihood. Where a scanner has
    no value of a configuration, the interaction is left out and ``concerns`` says so.
    """
    values = _long_table(metrics, structure, metric, configurations)
    terms, concerns = _terms(values, [str(configuration) for configuration in configurations])
    response = values["value"].to_numpy()
    subjects = pd.factorize(values["subject"])[0]
    fitted = _fit(response, _design(terms), subjects, restricted=True)
    diagnostics = _diagnostics(fitted)
    return MixedModel(
        effects=_effects(fitted, terms, alpha),
        tests=_term_tests(response, terms, subjects),
        subject_sd=float(np.sqrt(fitted.ratio * fitted.residual_variance)),
        residual_sd=float(np.sqrt(fitted.residual_variance)),
        n_values=len(values),
        n_subjects=values["subject"].nunique(),
        diagnostics=diagnostics,
        concerns=concerns + _concerns(diagnostics),
    )


@dataclass(frozen=True)
class _Fit:
    """Estimates of one fit; ``ratio`` is subject variance over residual variance."""

    effects: np.ndarray
    covariance: np.ndarray
    ratio: float
    residual_variance: float
    log_likelihood: float
    fitted: np.ndarray
    residuals: np.ndarray
    subject_effects: np.ndarray


def _long_table(
    metrics: pd.DataFrame, structure: str, metric: str, configurations: Sequence[Configuration]
) -> pd.DataFrame:
    """One row a subject and configuration: value, subject, scanner, configuration."""
    scanners = scanner_of(metrics)
    tables = []
    for configuration in configurations:
        values = subject_values(metrics, structure, metric, configuration).dropna()
        table = values.rename("value").rename_axis("subject").reset_index()
        tables.append(table.assign(configuration=str(configuration)))
    long = pd.concat(tables, ignore_index=True)
    return long.assign(scanner=scanners[long["subject"]].to_numpy())


def _terms(
    values: pd.DataFrame, configurations: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The columns of each term of the design, by term, and what had to be left out."""
    compared = pd.DataFrame(
        {name: (values["configuration"] == name).astype(float) for name in configurations[1:]}
    )
    terms = {"configuration": compared}
    scanners = sorted(values["scanner"].unique())
    if len(scanners) == 1:
        return terms, []
    last = (values["scanner"] == scanners[-1]).astype(float)
    terms["scanner"] = pd.DataFrame(
        {name: (values["scanner"] == name).astype(float) - last for name in scanners[:-1]}
    )
    cells = values.groupby(["configuration", "scanner"]).ngroups
    if cells < len(configurations) * len(scanners):
        return terms, ["a scanner lacks a configuration: the interaction was left out"]
    terms["configuration x scanner"] = pd.DataFrame(
        {
            f"{configuration} x {scanner}": compared[configuration] * terms["scanner"][scanner]
            for configuration in compared
            for scanner in terms["scanner"]
        }
    )
    return terms, []


def _design(terms: dict[str, pd.DataFrame], without: Sequence[str] = ()) -> np.ndarray:
    """Intercept and the columns of all terms but those ``without``, shape (values, effects)."""
    kept = [columns.to_numpy() for name, columns in terms.items() if name not in without]
    length = len(next(iter(terms.values())))
    return np.column_stack([np.ones(length), *kept])


def _fit(response: np.ndarray, design: np.ndarray, subjects: np.ndarray, restricted: bool) -> _Fit:
    """Maximize the (restricted) likelihood over the variance ratio; all else follows from it."""
    found = optimize.minimize_scalar(
        lambda log_ratio: _deviance(np.exp(log_ratio), response, design, subjects, restricted),
        bounds=(-12, 12),
        method="bounded",
        options={"xatol": 1e-9},
    )
    at_zero = _deviance(0.0, response, design, subjects, restricted)
    ratio = 0.0 if at_zero <= found.fun else float(np.exp(found.x))
    y, x, _ = _decorrelate(ratio, response, design, subjects)
    effects = np.linalg.lstsq(x, y)[0]
    freedom = len(y) - (x.shape[1] if restricted else 0)
    variance = float(np.sum((y - x @ effects) ** 2) / freedom)
    marginal = response - design @ effects
    sizes = np.bincount(subjects)
    shrunk = ratio / (1 + ratio * sizes) * np.bincount(subjects, weights=marginal)
    return _Fit(
        effects=effects,
        covariance=variance * np.linalg.inv(x.T @ x),
        ratio=ratio,
        residual_variance=variance,
        log_likelihood=-0.5 * min(at_zero, float(found.fun)),
        fitted=design @ effects + shrunk[subjects],
        residuals=marginal - shrunk[subjects],
        subject_effects=shrunk,
    )


def _deviance(
    ratio: float, response: np.ndarray, design: np.ndarray, subjects: np.ndarray, restricted: bool
) -> float:
    """-2 log (restricted) likelihood at a variance ratio, at the best effects and variance."""
    y, x, log_determinant = _decorrelate(ratio, response, design, subjects)
    residuals = y - x @ np.linalg.lstsq(x, y)[0]
    freedom = len(y) - (x.shape[1] if restricted else 0)
    deviance = freedom * (np.log(2 * np.pi * np.sum(residuals**2) / freedom) + 1) + log_determinant
    return float(deviance + (np.linalg.slogdet(x.T @ x)[1] if restricted else 0))


def _decorrelate(
    ratio: float, response: np.ndarray, design: np.ndarray, subjects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Response and design freed of the correlation within subjects, and its log determinant.

    Of each value a share of its subject's mean is taken off: 1 - 1 / sqrt(1 + ratio * size).
    """
    sizes = np.bincount(subjects)
    share = (1 - 1 / np.sqrt(1 + ratio * sizes)) / sizes

    def freed(column: np.ndarray) -> np.ndarray:
        return column - (share * np.bincount(subjects, weights=column))[subjects]

    design = np.column_stack([freed(column) for column in design.T])
    return freed(response), design, float(np.log1p(ratio * sizes).sum())


def _effects(fitted: _Fit, terms: dict[str, pd.DataFrame], alpha: float) -> pd.DataFrame:
    """Estimates with t intervals on the degrees of freedom left within subjects."""
    names = ["intercept", *(name for columns in terms.values() for name in columns)]
    within = sum(columns.shape[1] for term, columns in terms.items() if term != "scanner")
    freedom = len(fitted.residuals) - len(fitted.subject_effects) - within
    errors = np.sqrt(np.diag(fitted.covariance))
    half = stats.t.isf(alpha / 2, freedom) * errors
    return pd.DataFrame(
        {
            "effect": names,
            "estimate": fitted.effects,
            "ci_low": fitted.effects - half,
            "ci_high": fitted.effects + half,
            "p": 2 * stats.t.sf(np.abs(fitted.effects / errors), freedom),
        }
    )


def _term_tests(
    response: np.ndarray, terms: dict[str, pd.DataFrame], subjects: np.ndarray
) -> pd.DataFrame:
    """Likelihood-ratio test of each term; main effects are tested without the interaction."""
    rows = []
    for term, columns in terms.items():
        beyond = {"configuration x scanner"} - {term}
        full, reduced = (
            _fit(response, _design(terms, without), subjects, restricted=False)
            for without in (beyond, {*beyond, term})
        )
        ratio = max(2 * (full.log_likelihood - reduced.log_likelihood), 0.0)
        freedom = columns.shape[1]
        rows.append((term, ratio, freedom, float(stats.chi2.sf(ratio, freedom))))
    return pd.DataFrame(rows, columns=["term", "likelihood_ratio", "df", "p"])


def _diagnostics(fitted: _Fit) -> dict[str, float]:
    residuals = fitted.residuals
    spread = stats.spearmanr(np.abs(residuals), fitted.fitted)
    subjects_vary = np.ptp(fitted.subject_effects) > 0
    return {
        "share_of_variance_between_subjects": fitted.ratio / (1 + fitted.ratio),
        "normal_residuals_p": float(stats.shapiro(residuals).pvalue),
        "normal_subjects_p": (
            float(stats.shapiro(fitted.subject_effects).pvalue) if subjects_vary else float("nan")
        ),
        "spread_grows_with_fit_rho": float(spread.statistic),
        "spread_grows_with_fit_p": float(spread.pvalue),
        "largest_standardized_residual": float(np.abs(residuals / residuals.std()).max()),
    }


def _concerns(diagnostics: dict[str, float]) -> list[str]:
    """What the diagnostics warn of, in words; empty when nothing does."""
    warnings = {
        "residuals are not normal": diagnostics["normal_residuals_p"] < CONCERN_P,
        "subject effects are not normal": diagnostics["normal_subjects_p"] < CONCERN_P,
        "residuals spread unevenly over the fitted values": (
            diagnostics["spread_grows_with_fit_p"] < CONCERN_P
        ),
        "a residual lies more than four standard deviations out": (
            diagnostics["largest_standardized_residual"] > 4
        ),
        "subjects explain none of the variance": (
            diagnostics["share_of_variance_between_subjects"] == 0
        ),
    }
    return [words for words, holds in warnings.items() if holds]
