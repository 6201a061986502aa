"""A linear mixed model of a measure: configuration, scanner, their interaction, random subjects.

It answers what paired tests cannot: whether the difference between models depends on the scanner.
It is the model of R's ``lmer(value ~ configuration * scanner + (1 | subject))``, fitted by
statsmodels. If subjects do not differ, its matrix is singular; then ordinary least squares, which
is the same model, is used. Terms are tested by F, with degrees of freedom that count subjects where
subjects are compared. Likelihood-ratio tests would report an interaction that does not exist three
times too often with fifteen subjects on five scanners.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy

from wmh.analysis.statistics import Configuration, scanner_of, values_table

if TYPE_CHECKING:
    from statsmodels.regression.linear_model import RegressionResults
    from statsmodels.regression.mixed_linear_model import MixedLMResults

CONCERN_P = 0.01
"""Diagnostics with a p-value below this are reported."""
LEAST_GAIN = 1e-6
"""Least gain in log-likelihood for which subjects count as different from each other."""


@dataclass(frozen=True)
class MixedModel:
    """A fitted model.

    ``effects`` has one row per fixed effect with estimate, interval and p. ``tests`` are F-tests of
    whole terms. ``subject_sd`` and ``residual_sd`` have the measure's own unit;
    ``share_between_subjects`` is the subjects' share of the variance. ``concerns`` are the warnings
    of the diagnostics.
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
    effect is its difference from the reference averaged over scanners. Everything is estimated by
    restricted maximum likelihood. If a scanner has no value of a configuration, or only one value
    of each, the interaction is left out and ``concerns`` says so. If there are no more values than
    effects, or all values are equal, all estimates are NaN.
    """
    values = values_table(metrics, structure, metric, configurations).rename(columns=str)
    values = values.melt(var_name="configuration", ignore_index=False).dropna()
    values = values.rename_axis("subject").reset_index()
    values["scanner"] = values["subject"].map(scanner_of(metrics))
    terms, left_out = _terms(values, [str(configuration) for configuration in configurations])
    response = values["value"].to_numpy()
    subjects = pd.factorize(values["subject"])[0]
    fit = _fit(response, _design(terms), subjects)
    names = ["intercept", *(name for columns in terms.values() for name in columns)]
    estimates = errors = np.full(len(names), np.nan)
    subject_sd = residual_sd = float("nan")
    if hasattr(fit, "random_effects"):
        estimates, errors = fit.fe_params, fit.bse_fe
        subject_sd, residual_sd = float(np.sqrt(np.squeeze(fit.cov_re))), float(np.sqrt(fit.scale))
    elif fit is not None:
        estimates, errors = fit.params, fit.bse
        subject_sd, residual_sd = 0.0, float(np.sqrt(fit.ssr / fit.df_resid))
    columns_of = {"intercept": 1} | {term: columns.shape[1] for term, columns in terms.items()}
    freedom = np.repeat(
        [_error_freedom(term, terms, subjects) for term in columns_of], [*columns_of.values()]
    )
    half = scipy.stats.t.isf(alpha / 2, freedom) * errors
    effects = {
        "effect": names,
        "estimate": estimates,
        "ci_low": estimates - half,
        "ci_high": estimates + half,
        "p": 2 * scipy.stats.t.sf(np.abs(estimates / errors), freedom),
    }
    return MixedModel(
        effects=pd.DataFrame(effects),
        tests=_term_tests(response, terms, subjects),
        subject_sd=subject_sd,
        residual_sd=residual_sd,
        share_between_subjects=subject_sd**2 / (subject_sd**2 + residual_sd**2),
        n_values=len(values),
        n_subjects=values["subject"].nunique(),
        concerns=left_out + _concerns(fit),
    )


def _terms(
    values: pd.DataFrame, configurations: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The design's columns by term, and a note on any term that had to be left out."""
    compared = pd.get_dummies(values["configuration"], dtype=float)
    compared = compared.reindex(columns=configurations[1:], fill_value=0.0)
    terms = {"configuration": compared}
    scanners = pd.get_dummies(values["scanner"], dtype=float)
    if scanners.shape[1] == 1:
        return terms, []
    terms["scanner"] = scanners.iloc[:, :-1].sub(scanners.iloc[:, -1], axis=0)
    cells = values.groupby(["configuration", "scanner"]).ngroups
    if cells < len(configurations) * scanners.shape[1]:
        return terms, ["a scanner has no value of a configuration: the interaction was left out"]
    if cells == len(values):
        return terms, ["each scanner has only one subject: the interaction was left out"]
    terms["configuration x scanner"] = pd.DataFrame(
        {
            f"{configuration} x {scanner}": compared[configuration] * terms["scanner"][scanner]
            for configuration in compared
            for scanner in terms["scanner"]
        }
    )
    return terms, []


def _design(terms: dict[str, pd.DataFrame]) -> np.ndarray:
    """Intercept and the columns of all terms, shape (values, effects)."""
    length = len(next(iter(terms.values())))
    return np.column_stack([np.ones(length), *(columns.to_numpy() for columns in terms.values())])


def _error_freedom(term: str, terms: dict[str, pd.DataFrame], subjects: np.ndarray) -> int:
    """Degrees of freedom of a term's error: of the subjects within scanners, or of the values.

    A subject has one scanner, so that level and scanner are compared between subjects, and all
    configurations, which are compared within them. (In balanced data these are the exact ones.)
    """
    people = len(set(subjects))
    between = terms["scanner"].shape[1] if "scanner" in terms else 0
    if term in ("intercept", "scanner"):
        return people - 1 - between
    within = sum(columns.shape[1] for name, columns in terms.items() if name != "scanner")
    return len(subjects) - people - within


def _fit(
    response: np.ndarray, design: np.ndarray, subjects: np.ndarray
) -> MixedLMResults | RegressionResults | None:
    """Fit by restricted maximum likelihood, or by least squares if subjects do not differ.

    None if there are no more values than effects, or all values are equal.
    """
    # takes a second, and only one notebook needs it
    from statsmodels.regression.linear_model import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM

    if len(response) <= design.shape[1] or np.ptp(response) == 0:
        return None
    plain = OLS(response, design).fit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns when it tries a boundary during the fit
            mixed = MixedLM(response, design, groups=subjects).fit(reml=False)
            if mixed.llf > plain.llf + LEAST_GAIN:
                return MixedLM(response, design, groups=subjects).fit()
    except (np.linalg.LinAlgError, ValueError):
        pass
    return plain


def _term_tests(
    response: np.ndarray, terms: dict[str, pd.DataFrame], subjects: np.ndarray
) -> pd.DataFrame:
    """F-test of each term; main effects are tested in models without interaction."""
    rows = []
    main = {term: terms[term] for term in ("configuration", "scanner") if term in terms}
    for term, columns in terms.items():
        tested = main if term in main else terms
        fit = _fit(response, _design(tested), subjects)
        freedom, error_freedom = columns.shape[1], _error_freedom(term, tested, subjects)
        ratio = np.nan
        if fit is not None and error_freedom > 0:
            before = 1 + sum(tested[name].shape[1] for name in [*tested][: [*tested].index(term)])
            own = slice(before, before + freedom)
            effects, spread = np.asarray(fit.params)[own], np.asarray(fit.cov_params())[own, own]
            ratio = float(effects @ np.linalg.solve(spread, effects)) / freedom
        p = float(scipy.stats.f.sf(ratio, freedom, error_freedom))
        rows.append((term, ratio, freedom, error_freedom, p))
    return pd.DataFrame(rows, columns=["term", "F", "df", "df_error", "p"])


def _concerns(fit: MixedLMResults | RegressionResults | None) -> list[str]:
    """Warnings of a fit's diagnostics in words; empty if there are none."""
    if fit is None:
        return []
    residuals = fit.resid  # without the subjects' own levels
    levels = np.ravel([*getattr(fit, "random_effects", {}).values()])
    warnings = {
        "residuals are not normal": scipy.stats.shapiro(residuals).pvalue < CONCERN_P,
        "subject effects are not normal": (
            levels.any() and np.ptp(levels) > 0 and scipy.stats.shapiro(levels).pvalue < CONCERN_P
        ),
        "residuals spread unevenly over the fitted values": (
            scipy.stats.spearmanr(np.abs(residuals), fit.fittedvalues).pvalue < CONCERN_P
        ),
        "a residual lies more than four standard deviations out": (
            np.abs(residuals / residuals.std()).max() > 4
        ),
        "subjects explain none of the variance": not levels.any(),
    }
    return [words for words, holds in warnings.items() if holds]
