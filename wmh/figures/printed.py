"""Numbers, tables and sentences of statistics, printed the same in notebooks, figures and pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from wmh.analysis.leaderboard import PUBLISHED_SCORES, TEST_SUBJECTS, LeaderboardRank
from wmh.analysis.mixed_model import MixedModel
from wmh.analysis.statistics import LESIONS, REGIONS_MEAN, Friedman
from wmh.atlas.regions import region_name
from wmh.figures.style import MEASURES, MINUS, configuration_name

COARSE = ("mm", "percent", "ml")
"""Measures with these endings are printed with one decimal, all others with three."""

HEADINGS = {(LESIONS, metric): measure.label for metric, measure in MEASURES.items()} | {
    (REGIONS_MEAN, "dice"): "Region Dice"
}
"""Columns of the tables of measures, by structure and metric, in order."""


def printed(value: float, metric: str = "dice") -> str:
    """A value of a measure; ``–`` for none. A value that rounds to 0 has no sign.

    >>> printed(0.71239), printed(8.276, "hd95_mm"), printed(-0.0004)
    ('0.712', '8.3', '0.000')
    """
    if np.isnan(value):
        return "–"
    return f"{value:z.{1 if metric.endswith(COARSE) else 3}f}".replace("-", MINUS)


def signed(value: float, metric: str = "dice") -> str:
    """A difference with its sign; a value that rounds to 0 has no sign.

    >>> signed(0.0217), signed(-0.00004)
    ('+0.022', '0.000')
    """
    if np.isnan(value):
        return "–"
    text = f"{value:+z.{1 if metric.endswith(COARSE) else 3}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def with_interval(
    value: float, low: float, high: float, metric: str = "dice", difference: bool = False
) -> str:
    """An estimate with its interval.

    >>> with_interval(0.7124, 0.6801, 0.7399), with_interval(0.7, 0.6, float("nan"))
    ('0.712 [0.680, 0.740]', '0.700')
    """
    write = signed if difference else printed
    if np.isnan(low) or np.isnan(high):
        return write(value, metric)
    return f"{write(value, metric)} [{write(low, metric)}, {write(high, metric)}]"


def p_text(p: float) -> str:
    """A p-value as printed: ``p < 0.001``, ``p = 0.012``, ``p = 0.40``."""
    if np.isnan(p):
        return "not testable"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def readable(text: str) -> str:
    """A text with the printed names of the configurations it mentions.

    >>> readable("lesion Dice: flair_t1 (FLAIR+T1) minus flair (FLAIR)")
    'lesion Dice: Concatenated minus FLAIR'
    """
    configuration = r"(\w+) \((FLAIR\+T1|FLAIR|T1)\)"
    named = re.sub(configuration, lambda found: configuration_name(found[1], found[2]), text)
    return named[0].upper() + named[1:] if named.startswith("regional") else named


def is_difference(part: NamedTuple | pd.Series) -> bool:
    """Whether a part of a claim is a difference, printed with its sign, and not an agreement."""
    return not np.isnan(part.p_holm)


def effect_text(part: NamedTuple | pd.Series) -> str:
    """The effect of a part of a claim with its interval."""
    numbers = (part.mean_difference, part.ci_low, part.ci_high)
    return with_interval(*numbers, difference=is_difference(part))


def means_table(means: pd.DataFrame) -> pd.DataFrame:
    """The five measures and mean region Dice of every configuration, with intervals.

    n is printed if a measure has no value for some subjects.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in means.to_dict("records"):
        if heading := HEADINGS.get((row["structure"], row["metric"])):
            name = configuration_name(row["model"], row["inputs_given"])
            numbers = (row["mean"], row["ci_low"], row["ci_high"])
            fewer = f" (n = {row['n']})" if row["n_missing"] else ""
            rows.setdefault(name, {})[heading] = with_interval(*numbers, row["metric"]) + fewer
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    return table.reindex(columns=list(HEADINGS.values()), fill_value="").fillna("")


def differences_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Paired comparisons: a line per pair, a column per measure; with n if values are missing."""
    everyone = comparisons["n"].max()
    rows: dict[str, dict[str, str]] = {}
    for row in comparisons.to_dict("records"):
        sides = [configuration_name(row[f"model_{s}"], row[f"inputs_{s}"]) for s in "ab"]
        numbers = (row["mean_difference"], row["ci_low"], row["ci_high"])
        text = f"{with_interval(*numbers, row['metric'], difference=True)}, {p_text(row['p_holm'])}"
        fewer = f" (n = {row['n']})" if row["n"] < everyone else ""
        heading = HEADINGS.get((row["structure"], row["metric"]))
        rows.setdefault(f" {MINUS} ".join(sides), {})[heading] = text + fewer
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    return table[[heading for heading in HEADINGS.values() if heading in table]].fillna("")


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
        spread = []
        for part in claim.itertuples():
            write = signed if is_difference(part) else printed
            ends = f"{write(part.repeat_low)} to {write(part.repeat_high)}"
            alike = f"{part.repeats_agreeing} of {part.repeats} alike"
            spread.append(f"{ends} (sd {part.repeat_sd:.3f}); {alike}")
        table["over repeats"] = spread
    return table.set_axis([readable(comparison) for comparison in claim["comparison"]])


def gap_table(gaps: pd.DataFrame) -> pd.DataFrame:
    """Seen against unseen scanners, a line per configuration."""
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
    """Rank correlations, a line per configuration."""
    return pd.DataFrame(
        {
            "n": correlations["n"].to_numpy(),
            "Spearman's rho": _intervals(correlations, "rho"),
            "corrected p": [p_text(p) for p in correlations["p_holm"]],
        },
        index=_names(correlations),
    )


def volume_table(volumes: pd.DataFrame) -> pd.DataFrame:
    """Agreement of lesion volumes, a line per configuration."""
    return pd.DataFrame(
        {
            "n": volumes["n"].to_numpy(),
            "bias [limits of agreement], ml": _biases(volumes),
            "Spearman's rho": [printed(rho) for rho in volumes["rho"]],
            "ICC(A,1)": _intervals(volumes, "icc"),
        },
        index=_names(volumes),
    )


def agreement_table(
    summary: pd.DataFrame, agreements: pd.DataFrame, names: Mapping[str, str]
) -> pd.DataFrame:
    """Agreement of burden, a line per source: region by region, and for the sum over regions.

    ``names`` are the printed names of the sources. For the sum, the numbers of all repeats follow
    one after the other.
    """
    totals = agreements[agreements["region"] == "all"].set_index("source")
    rows = {}
    for row in summary.itertuples():
        total = totals.loc[[row.source]]
        rows[names[row.source]] = {
            "n": row.n,
            "ICC(A,1) within regions": with_interval(row.icc, row.ci_low, row.ci_high),
            "rank correlation [quartiles]": with_interval(
                row.profile_correlation, row.lower_quartile, row.upper_quartile
            ),
            "ICC(A,1) of the sum": "; ".join(_intervals(total, "icc", "icc_low", "icc_high")),
            "bias of the sum [limits], ml": "; ".join(_biases(total)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def relation_table(relation: pd.DataFrame) -> pd.DataFrame:
    """The relation of burden to a variable, the regions with the smallest p first."""
    ordered = relation.sort_values("p", kind="stable")
    return pd.DataFrame(
        {
            "n": ordered["n"].to_numpy(),
            "slope [interval]": _intervals(ordered, "slope", difference=True),
            "corrected p": [p_text(p) for p in ordered["p_holm"]],
        },
        index=list(ordered["region_name"]),
    )


def effects_table(model: MixedModel) -> pd.DataFrame:
    """The fixed effects of the configurations: differences from the first, mean over scanners."""
    names = model.effects["effect"]
    effects = model.effects[~names.str.contains(" x ") & names.str.contains(r"\(")]
    return pd.DataFrame(
        {
            "effect [interval]": _intervals(effects, "estimate", difference=True),
            "p": [p_text(p) for p in effects["p"]],
        },
        index=[readable(name) for name in effects["effect"]],
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


def friedman_words(found: Friedman, alpha: float) -> str:
    """Friedman's test, and the pairs that differ in its post-hoc test."""
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
        f"Pairs that differ by Nemenyi's post-hoc test: {pairs or 'none'}."
    )


def mixed_model_words(model: MixedModel) -> str:
    """The tests of a mixed model's terms, its variances, and warnings of its diagnostics."""
    if np.isnan(model.residual_sd):
        values = f"{model.n_values} values of n = {model.n_subjects}"
        return f"No mixed model: {values} are too few, or all alike."
    tests = "; ".join(
        f"{row.term}: F({row.df}, {row.df_error}) = {row.F:.1f}, {p_text(row.p)}"
        for row in model.tests.itertuples()
    )
    concerns = "; ".join(model.concerns) or "nothing stands out"
    return (
        f"{model.n_values} values of {model.n_subjects} subjects. {tests}. Standard deviation "
        f"between subjects {model.subject_sd:.3f}, within {model.residual_sd:.3f} "
        f"({model.share_between_subjects:.0%} of the variance lies between subjects). "
        f"Diagnostics: {concerns}."
    )


def ranks_words(ranks: Mapping[str, LeaderboardRank]) -> str:
    """The ranks of all configurations, as Markdown."""
    if not ranks:
        return "These are not the challenge's 110 test subjects: no rank."
    return "\n".join(f"- {readable(name)}: {rank_words(rank)}" for name, rank in ranks.items())


def rank_words(rank: LeaderboardRank) -> str:
    """A score and rank among the published teams, and the number of missing values."""
    if rank.n != TEST_SUBJECTS:
        return f"only {rank.n} of the {TEST_SUBJECTS} test subjects were predicted: no rank"
    missing = "".join(
        f"; {MEASURES[metric].label} of {count} subject{'s' * (count > 1)} missing"
        for metric, count in rank.missing.items()
    )
    teams = len(PUBLISHED_SCORES)
    return f"score {rank.score:.4f}, rank {rank.rank} among {teams} published teams{missing}"


def found_words(relation: pd.DataFrame, raised: Iterable[int], alpha: float) -> str:
    """A sentence on where a simulated effect was put, and where it was found."""
    if relation.empty:
        return "Too few subjects for this example."
    found = relation.loc[relation["p_holm"] < alpha, "region_name"]
    put = "; ".join(map(region_name, raised))
    return f"Raised: {put}. Found: {'; '.join(found) or 'nowhere'}."


def _intervals(
    table: pd.DataFrame,
    value: str,
    low: str = "ci_low",
    high: str = "ci_high",
    metric: str = "dice",
    difference: bool = False,
) -> list[str]:
    """The estimate and interval of each row, from columns of these names."""
    numbers = zip(table[value], table[low], table[high], strict=True)
    return [with_interval(*three, metric, difference) for three in numbers]


def _biases(table: pd.DataFrame) -> list[str]:
    return _intervals(table, "bias_ml", "limit_low_ml", "limit_high_ml", "ml", difference=True)


def _names(table: pd.DataFrame) -> list[str]:
    pairs = zip(table["model"], table["inputs_given"], strict=True)
    return [configuration_name(model, given) for model, given in pairs]
