"""Tables and sentences of statistics, as notebooks print them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from wmh.analysis.leaderboard import PUBLISHED_SCORES, TEST_SUBJECTS, Place
from wmh.analysis.metrics import FIVE_MEASURES
from wmh.analysis.mixed_model import MixedModel
from wmh.analysis.statistics import REGIONS_MEAN, Friedman
from wmh.figures.printed_numbers import (
    effect_text,
    is_difference,
    p_text,
    printed,
    readable,
    signed,
    with_interval,
)
from wmh.figures.style import MEASURES, MINUS, SOURCES, configuration_name


def means_table(means: pd.DataFrame) -> pd.DataFrame:
    """The five measures and mean region Dice of every configuration, with intervals; n where a
    measure lacks subjects."""
    rows: dict[str, dict[str, str]] = {}
    for row in means.to_dict("records"):
        heading = _heading(row["structure"], row["metric"])
        if heading:
            name = configuration_name(row["model"], row["inputs_given"])
            numbers = (row["mean"], row["ci_low"], row["ci_high"])
            fewer = f" (n = {row['n']})" if row["n_missing"] else ""
            rows.setdefault(name, {})[heading] = with_interval(*numbers, row["metric"]) + fewer
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    return table.reindex(columns=_headings(), fill_value="").fillna("")


def differences_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Paired comparisons: a line a pair, a column a measure; n where a measure has fewer pairs."""
    everyone = comparisons["n"].max()
    rows: dict[str, dict[str, str]] = {}
    for row in comparisons.to_dict("records"):
        sides = [configuration_name(row[f"model_{s}"], row[f"inputs_{s}"]) for s in "ab"]
        numbers = (row["mean_difference"], row["ci_low"], row["ci_high"])
        text = f"{with_interval(*numbers, row['metric'], difference=True)}, {p_text(row['p_holm'])}"
        fewer = f" (n = {row['n']})" if row["n"] < everyone else ""
        heading = _heading(row["structure"], row["metric"])
        rows.setdefault(f" {MINUS} ".join(sides), {})[heading] = text + fewer
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    return table[[heading for heading in _headings() if heading in table]].fillna("")


def evidence_table(claim: pd.DataFrame) -> pd.DataFrame:
    """The parts of one claim, each with its numbers and verdict."""
    table = pd.DataFrame(
        {
            "n": claim["n"],
            "effect [interval]": [effect_text(part) for part in claim.itertuples()],
            "corrected p": [
                "no test" if np.isnan(p) and n else p_text(p)
                for p, n in zip(claim["p_holm"], claim["n"], strict=True)
            ],
            "smallest that matters": claim["smallest_difference"],
            "verdict": claim["verdict"],
        }
    )
    if claim["repeats"].max() > 1:
        table["over repeats"] = [
            f"{_range(row)} (sd {row.repeat_sd:.3f}); {row.repeats_agreeing} of {row.repeats} alike"
            for row in claim.itertuples()
        ]
    return table.set_axis([readable(comparison) for comparison in claim["comparison"]])


def gap_table(gaps: pd.DataFrame) -> pd.DataFrame:
    """Seen against unseen scanners, a line a configuration."""
    return pd.DataFrame(
        {
            "seen": [f"{printed(r.mean_seen)} (n = {r.n_seen})" for r in gaps.itertuples()],
            "unseen": [f"{printed(r.mean_unseen)} (n = {r.n_unseen})" for r in gaps.itertuples()],
            f"unseen {MINUS} seen": _intervals(gaps, "mean_difference", difference=True),
            "corrected p": [p_text(p) for p in gaps["p_holm"]],
        },
        index=_names(gaps),
    )


def correlation_table(correlations: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations, a line a configuration."""
    return pd.DataFrame(
        {
            "n": correlations["n"].to_numpy(),
            "Spearman's rho": _intervals(correlations, "rho", difference=False),
            "corrected p": [p_text(p) for p in correlations["p_holm"]],
        },
        index=_names(correlations),
    )


def volume_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """Agreement of lesion volumes, a line a configuration."""
    limits = zip(volumes["bias_ml"], volumes["limit_low_ml"], volumes["limit_high_ml"], strict=True)
    return pd.DataFrame(
        {
            "n": volumes["n"].to_numpy(),
            "bias [limits of agreement], ml": [with_interval(*x, "ml", True) for x in limits],
            "Spearman's rho": [printed(rho) for rho in volumes["rho"]],
            "ICC(A,1)": _intervals(volumes, "icc", difference=False),
        },
        index=_names(volumes),
    )


def index_words(claims: pd.DataFrame) -> str:
    """All claims with their verdicts and numbers, each linked to its section, as Markdown."""
    lines = []
    for number, (sentence, parts) in enumerate(claims.groupby("sentence", sort=False), start=1):
        numbers = "; ".join(
            f"{readable(part.comparison)}: {effect_text(part) if part.n else 'not measured'}"
            for part in parts.itertuples()
        )
        verdict = parts["claim_verdict"].iloc[0].capitalize()
        lines.append(f"{number}. [{sentence}](#Claim-{number}) **{verdict}.** {numbers}")
    return "\n".join(lines)


def verdict_words(claim: pd.DataFrame) -> str:
    """The sentence of a claim and the verdict on it, as Markdown."""
    return f"> {claim['sentence'].iloc[0]}\n\n**{claim['claim_verdict'].iloc[0].capitalize()}.**"


def agreement_table(summary: pd.DataFrame, agreements: pd.DataFrame) -> pd.DataFrame:
    """Agreement of burden, a line a source: region by region, and of the sum over regions."""
    totals = agreements[agreements["region"] == "all"].set_index("source")
    rows = {}
    for row in summary.itertuples():
        total = totals.loc[[row.source]]
        rows[SOURCES[row.source].name] = {
            "n": row.n,
            "ICC(A,1) within regions": with_interval(row.icc, row.ci_low, row.ci_high),
            "rank correlation [quartiles]": with_interval(
                row.profile_correlation, row.lower_quartile, row.upper_quartile
            ),
            "ICC(A,1) of the sum": _each(total, "icc", "icc_low", "icc_high", "dice"),
            "bias of the sum [limits], ml": _each(
                total, "bias_ml", "limit_low_ml", "limit_high_ml", "ml"
            ),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def relation_table(relation: pd.DataFrame) -> pd.DataFrame:
    """The relation of burden to a variable, the surest regions first."""
    ordered = relation.sort_values("p", kind="stable")
    return pd.DataFrame(
        {
            "n": ordered["n"].to_numpy(),
            "slope [interval]": _intervals(ordered, "slope", difference=True),
            "corrected p": [p_text(p) for p in ordered["p_holm"]],
        },
        index=list(ordered["region_name"]),
    )


def friedman_words(found: Friedman, alpha: float) -> str:
    """Friedman's test and the pairs that its post-hoc test tells apart."""
    if np.isnan(found.p):
        return f"Friedman's test has nothing to tell apart: all ranks tie, n = {found.n}."
    k = len(found.mean_ranks)
    ranks = found.mean_ranks.sort_values(ascending=False)
    order = ", ".join(f"{readable(name)} {rank:.2f}" for name, rank in ranks.items())
    apart = found.posthoc[found.posthoc["p_nemenyi"] < alpha]
    pairs = "; ".join(
        f"{readable(row.a)} and {readable(row.b)} ({p_text(row.p_nemenyi)})"
        for row in apart.itertuples()
    )
    return (
        f"Friedman's χ²({k - 1}) = {found.statistic:.1f}, n = {found.n}, {p_text(found.p)}, "
        f"Kendall's W = {found.kendall_w:.2f}. Mean ranks (highest Dice {k}): {order}. "
        f"Told apart by Nemenyi's post-hoc test: {pairs or 'no pair'}."
    )


def mixed_model_words(model: MixedModel) -> str:
    """The tests of a mixed model's terms, its variances and what its diagnostics warn of."""
    if np.isnan(model.residual_sd):
        values = f"{model.n_values} values of n = {model.n_subjects}"
        return f"No mixed model: {values} are too few, or all alike."
    tests = "; ".join(
        f"{row.term}: χ²({row.df}) = {row.likelihood_ratio:.1f}, {p_text(row.p)}"
        for row in model.tests.itertuples()
    )
    share = model.diagnostics["share_of_variance_between_subjects"]
    concerns = "; ".join(model.concerns) or "nothing stands out"
    return (
        f"{model.n_values} values of {model.n_subjects} subjects. {tests}. Standard deviation "
        f"between subjects {model.subject_sd:.3f}, within {model.residual_sd:.3f} "
        f"({share:.0%} of the variance lies between subjects). Diagnostics: {concerns}."
    )


def effects_table(model: MixedModel) -> pd.DataFrame:
    """The fixed effects of the configurations: differences from the first, over scanners."""
    shown = ~model.effects["effect"].str.contains(" x ") & model.effects["effect"].str.contains(
        r"\("
    )
    effects = model.effects[shown]
    return pd.DataFrame(
        {
            "effect [interval]": _intervals(effects, "estimate", difference=True),
            "p": [p_text(p) for p in effects["p"]],
        },
        index=[readable(name) for name in effects["effect"]],
    )


def place_words(place: Place) -> str:
    """A score and rank among the published teams, and what they leave out."""
    if not place.complete:
        return f"only {place.n} of the {TEST_SUBJECTS} test subjects were predicted: no rank"
    missing = "".join(
        f"; {MEASURES[metric].label} of {count} subject{'s' * (count > 1)} missing"
        for metric, count in place.missing.items()
    )
    teams = len(PUBLISHED_SCORES)
    return f"score {place.score:.4f}, rank {place.rank} among {teams} published teams{missing}"


def _headings() -> list[str | None]:
    """The columns of those tables, in order."""
    lesions = [_heading("lesions", metric) for metric in FIVE_MEASURES]
    return [*lesions, _heading(REGIONS_MEAN, "dice")]


def _heading(structure: str, metric: str) -> str | None:
    """The column of a measure in the tables that notebooks show; None for what they do not."""
    if structure == REGIONS_MEAN:
        return "Region Dice" if metric == "dice" else None
    return MEASURES[metric].label if structure == "lesions" and metric in MEASURES else None


def _range(part: NamedTuple) -> str:
    """The smallest and the largest effect over repeats."""
    write = signed if is_difference(part) else printed
    return f"{write(part.repeat_low)} to {write(part.repeat_high)}"


def _intervals(table: pd.DataFrame, column: str, difference: bool) -> list[str]:
    numbers = zip(table[column], table["ci_low"], table["ci_high"], strict=True)
    return [with_interval(*three, difference=difference) for three in numbers]


def _each(table: pd.DataFrame, value: str, low: str, high: str, metric: str) -> str:
    """Estimates of each repeat, one after the other."""
    numbers = zip(table[value], table[low], table[high], strict=True)
    return "; ".join(with_interval(*three, metric, difference=metric == "ml") for three in numbers)


def _names(table: pd.DataFrame) -> Iterable[str]:
    pairs = zip(table["model"], table["inputs_given"], strict=True)
    return [configuration_name(model, given) for model, given in pairs]
