"""A linear mixed model of a measure: configuration, scanner, their interaction, random subjects.

It answers what paired tests cannot: whether the difference between models depends on the scanner.
It is the model of R's ``lmer(value ~ configuration * scanner + (1 | subject))``, fitted by
statsmodels. If subjects do not differ, its matrix is singular; then ordinary least squares, which
is the same model, is used.
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
FEW_SUBJECTS = 10
"""With fewer subjects, likelihood-ratio tests reject too often, which is reported."""
LEAST_GAIN = 1e-6
"""Least gain in log-likelihood for which subjects count as different from each other."""


@dataclass(frozen=True)
class MixedModel:
    """A fitted model.

    ``effects`` has one row per fixed effect with estimate, interval and p. ``tests`` are
    likelihood-ratio tests of whole terms. ``subject_sd`` and ``residual_sd`` have the measure's own
    unit; ``share_between_subjects`` is the subjects' share of the variance. ``concerns`` are the
    warnings of the diagnostics.
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
    from restricted maximum likelihood, tests of terms from maximum likelihood. If a scanner has no
    value of a configuration, or only one value of each, the interaction is left out and
    ``concerns`` says so. If there are no more values than effects, or all values are equal, all
    estimates are NaN.
    """
    values = values_table(metrics, structure, metric, configurations).rename(columns=str)
    values = values.melt(var_name="configuration", ignore_index=False).dropna()
    values = values.rename_axis("subject").reset_index()
    values["scanner"] = values["subject"].map(scanner_of(metrics))
    terms, left_out = _terms(values, [str(configuration) for configuration in configurations])
    response = values["value"].to_numpy()
    subjects = pd.factorize(values["subject"])[0]
    fit = _fit(response, _design(terms), subjects, restricted=True)
    names = ["intercept", *(name for columns in terms.values() for name in columns)]
    estimates = errors = np.full(len(names), np.nan)
    subject_sd = residual_sd = float("nan")
    if hasattr(fit, "random_effects"):
        estimates, errors = fit.fe_params, fit.bse_fe
        subject_sd, residual_sd = float(np.sqrt(np.squeeze(fit.cov_re))), float(np.sqrt(fit.scale))
    elif fit is not None:
        estimates, errors = fit.params, fit.bse
        subject_sd, residual_sd = 0.0, float(np.sqrt(fit.ssr / fit.df_resid))
    few = ["with so few subjects p of the terms is too small"] * (len(set(subjects)) < FEW_SUBJECTS)
    within = sum(columns.shape[1] for term, columns in terms.items() if term != "scanner")
    freedom = len(values) - values["subject"].nunique() - within
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
        concerns=left_out + few * (fit is not None) + _concerns(fit),
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


def _design(terms: dict[str, pd.DataFrame], without: Sequence[str] = ()) -> np.ndarray:
    """Intercept and the columns of all terms not in ``without``, shape (values, effects)."""
    kept = [columns.to_numpy() for name, columns in terms.items() if name not in without]
    length = len(next(iter(terms.values())))
    return np.column_stack([np.ones(length), *kept])


def _fit(
    response: np.ndarray, design: np.ndarray, subjects: np.ndarray, restricted: bool
) -> MixedLMResults | RegressionResults | None:
    """Fit by (restricted) maximum likelihood, or by least squares if subjects do not differ.

    None if there are no more values than effects, or all values are equal.
    """
    from statsmodels.regression.linear_model import (
        OLS,
    )  # takes a second; only one notebook needs it
    from statsmodels.regression.mixed_linear_model import MixedLM

    if len(response) <= design.shape[1] or np.ptp(response) == 0:
        return None
    plain = OLS(response, design).fit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns when it tries a boundary during the fit
            mixed = MixedLM(response, design, groups=subjects).fit(reml=False)
            if mixed.llf > plain.llf + LEAST_GAIN:
                return MixedLM(response, design, groups=subjects).fit() if restricted else mixed
    except (np.linalg.LinAlgError, ValueError):
        pass
    return plain


def _term_tests(
    response: np.ndarray, terms: dict[str, pd.DataFrame], subjects: np.ndarray
) -> pd.DataFrame:
    """Likelihood-ratio test of each term; main effects are tested in models without interaction."""
    rows = []
    for term, columns in terms.items():
        beyond = {"configuration x scanner"} - {term}
        fits = [
            _fit(response, _design(terms, without), subjects, restricted=False)
            for without in (beyond, {*beyond, term})
        ]
        full, reduced = (np.nan if fit is None else fit.llf for fit in fits)
        ratio = max(2 * (full - reduced), 0.0)
        freedom = columns.shape[1]
        rows.append((term, ratio, freedom, float(scipy.stats.chi2.sf(ratio, freedom))))
    return pd.DataFrame(rows, columns=["term", "likelihood_ratio", "df", "p"])


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
