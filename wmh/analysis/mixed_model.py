"""A linear mixed model of a measure: configuration, scanner, their interaction, random subjects.

It answers what paired tests cannot: whether the difference between models depends on the scanner
(the model of R's ``lmer(value ~ configuration * scanner + (1 | subject))``), fitted by statsmodels.
Where subjects do not differ its matrix is singular, and ordinary least squares is the same model.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from wmh.analysis.statistics import Configuration, scanner_of, subject_values

CONCERN_P = 0.01
"""Diagnostics with a p-value below this are put into words."""
LEAST_GAIN = 1e-6
"""Of the log-likelihood, by which subjects that differ explain more than the same for all."""


@dataclass(frozen=True)
class MixedModel:
    """A fitted model.

    ``effects``: one row per fixed effect with estimate, interval and p. ``tests``: likelihood-ratio
    tests of whole terms. ``subject_sd`` and ``residual_sd`` are in the measure's own units, and
    ``share_between_subjects`` is of the variance. ``concerns``: what its diagnostics warn of.
    """

    effects: pd.DataFrame
    tests: pd.DataFrame
    subject_sd: float
    residual_sd: float
    share_between_subjects: float
    n_values: int
    n_subjects: int
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
    no value of a configuration, or one of each, the interaction is left out and ``concerns`` says
    so. Where there are no more values than effects, or all are alike, all estimates are NaN.
    """
    scanners, tables = scanner_of(metrics), []
    for configuration in configurations:
        known = subject_values(metrics, structure, metric, configuration).dropna()
        about = {"scanner": scanners[known.index], "configuration": str(configuration)}
        tables.append(pd.DataFrame({"value": known, **about}))
    values = pd.concat(tables).rename_axis("subject").reset_index()
    terms, left_out = _terms(values, [str(configuration) for configuration in configurations])
    response = values["value"].to_numpy()
    subjects = pd.factorize(values["subject"])[0]
    fitted = _fit(response, _design(terms), subjects, restricted=True)
    between = fitted.subject_sd**2
    return MixedModel(
        effects=_effects(fitted, terms, alpha),
        tests=_term_tests(response, terms, subjects),
        subject_sd=fitted.subject_sd,
        residual_sd=fitted.residual_sd,
        share_between_subjects=between / (between + fitted.residual_sd**2),
        n_values=len(values),
        n_subjects=values["subject"].nunique(),
        concerns=left_out + _concerns(fitted),
    )


@dataclass(frozen=True)
class _Fit:
    """Estimates of one fit; residuals and fitted values take the subjects' own level in."""

    effects: np.ndarray
    errors: np.ndarray
    subject_sd: float
    residual_sd: float
    log_likelihood: float
    fitted: np.ndarray
    residuals: np.ndarray
    subject_effects: np.ndarray


def _terms(
    values: pd.DataFrame, configurations: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The columns of each term of the design, by term, and what had to be left out."""
    compared = pd.get_dummies(values["configuration"], dtype=float)
    compared = compared.reindex(columns=configurations[1:], fill_value=0.0)
    terms = {"configuration": compared}
    scanners = pd.get_dummies(values["scanner"], dtype=float)
    if scanners.shape[1] == 1:
        return terms, []
    terms["scanner"] = scanners.iloc[:, :-1].sub(scanners.iloc[:, -1], axis=0)
    cells = values.groupby(["configuration", "scanner"]).ngroups
    if cells < len(configurations) * scanners.shape[1]:
        return terms, ["a scanner lacks a configuration: the interaction was left out"]
    if cells == len(values):
        return terms, ["one subject a scanner: the interaction was left out"]
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
    """By (restricted) maximum likelihood; by least squares where subjects do not differ."""
    from statsmodels.regression.linear_model import OLS  # a second, for one notebook
    from statsmodels.regression.mixed_linear_model import MixedLM

    count, columns = design.shape
    if count <= columns or np.ptp(response) == 0:
        nothing, none, nan = np.full(columns, np.nan), np.full(count, np.nan), float("nan")
        return _Fit(nothing, nothing, nan, nan, nan, none, none, none)
    plain = OLS(response, design).fit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tries the boundary on its way, and says so
            mixed = MixedLM(response, design, groups=subjects).fit(reml=False)
            differ = mixed.llf > plain.llf + LEAST_GAIN
            if restricted and differ:
                mixed = MixedLM(response, design, groups=subjects).fit()
    except (np.linalg.LinAlgError, ValueError):
        differ = False
    if not differ:
        freedom = plain.df_resid if restricted else len(response)
        return _Fit(
            effects=plain.params,
            errors=plain.bse,
            subject_sd=0.0,
            residual_sd=float(np.sqrt(plain.ssr / freedom)),
            log_likelihood=plain.llf,
            fitted=plain.fittedvalues,
            residuals=plain.resid,
            subject_effects=np.zeros(len(np.unique(subjects))),
        )
    return _Fit(
        effects=mixed.fe_params,
        errors=mixed.bse_fe,
        subject_sd=float(np.sqrt(np.squeeze(mixed.cov_re))),
        residual_sd=float(np.sqrt(mixed.scale)),
        log_likelihood=mixed.llf,
        fitted=mixed.fittedvalues,
        residuals=mixed.resid,
        subject_effects=np.array([np.squeeze(one) for one in mixed.random_effects.values()]),
    )


def _effects(fitted: _Fit, terms: dict[str, pd.DataFrame], alpha: float) -> pd.DataFrame:
    """Estimates with t intervals on the degrees of freedom left within subjects."""
    names = ["intercept", *(name for columns in terms.values() for name in columns)]
    within = sum(columns.shape[1] for term, columns in terms.items() if term != "scanner")
    freedom = len(fitted.residuals) - len(fitted.subject_effects) - within
    half = stats.t.isf(alpha / 2, freedom) * fitted.errors
    return pd.DataFrame(
        {
            "effect": names,
            "estimate": fitted.effects,
            "ci_low": fitted.effects - half,
            "ci_high": fitted.effects + half,
            "p": 2 * stats.t.sf(np.abs(fitted.effects / fitted.errors), freedom),
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


def _concerns(fitted: _Fit) -> list[str]:
    """Warnings of a fit's diagnostics, in words; empty when all is well."""
    residuals, levels = fitted.residuals, fitted.subject_effects
    warnings = {
        "residuals are not normal": stats.shapiro(residuals).pvalue < CONCERN_P,
        "subject effects are not normal": (
            np.ptp(levels) > 0 and stats.shapiro(levels).pvalue < CONCERN_P
        ),
        "residuals spread unevenly over the fitted values": (
            stats.spearmanr(np.abs(residuals), fitted.fitted).pvalue < CONCERN_P
        ),
        "a residual lies more than four standard deviations out": (
            np.abs(residuals / residuals.std()).max() > 4
        ),
        "subjects explain none of the variance": fitted.subject_sd == 0,
    }
    return [words for words, holds in warnings.items() if holds]
