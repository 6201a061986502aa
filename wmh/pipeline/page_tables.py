"""The tables of a study's page, each made from the table that a stage has written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wmh.analysis.statistics import LESIONS, REGIONS_MEAN
from wmh.figures.printed import (
    effect_text,
    p_text,
    printed,
    readable,
    signed,
    with_interval,
)
from wmh.figures.style import (
    MEASURES,
    MODELS,
    SOURCES,
    configuration_name,
    in_order,
    scanner_name,
)

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number it is sorted by if that is another."""

    text: str
    value: float | None = None
    link: str | None = None
    verdict: bool = False


@dataclass(frozen=True)
class Table:
    """A table as the page shows it; the first cell of a row is its heading."""

    label: str
    headings: tuple[str, ...]
    numeric: frozenset[int]
    """Columns that hold numbers."""
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Claim:
    """A claim at a glance: the sentence, its verdict, and what that rests on."""

    sentence: str
    verdict: str
    parts: list[tuple[str, str, str]]
    """Comparison, numbers and verdict of each part."""


def subjects_table(cohort: pd.DataFrame) -> Table:
    """Subjects and their lesion volume by split and scanner."""
    groups = cohort.groupby(["scanner", "split"], sort=False)["lesion_ml"]
    rows = [
        [Cell(_scanner(scanner)), Cell(split), Cell(str(len(ml)))]
        + [_number(value, "ml") for value in (ml.median(), ml.min(), ml.max())]
        for (scanner, split), ml in groups
    ]
    headings = ("Scanner", "Split", "Subjects", "Median lesion volume, ml", "Smallest", "Largest")
    return Table("Subjects by scanner", headings, frozenset({2, 3, 4, 5}), rows)


def claims_at_a_glance(claims: pd.DataFrame) -> list[Claim]:
    """Every claim with its verdict and the numbers of its parts."""
    return [
        Claim(
            rows["sentence"].iloc[0],
            rows["claim_verdict"].iloc[0],
            [(_first_upper(row.comparison), _evidence(row), row.verdict) for row in _rows(rows)],
        )
        for _, rows in claims.groupby("claim", sort=False)
    ]


def claims_table(claims: pd.DataFrame) -> Table:
    """Every part of every claim, a line each."""
    rows = [
        [
            Cell(_first_upper(row.comparison)),
            Cell(row.verdict, verdict=True),
            Cell(str(number)),
            Cell(str(row.n)),
            Cell(effect_text(row), _known(row.mean_difference)),
            Cell(f"{row.smallest_difference:g}"),
            _p(row.p_holm),
            Cell(f"{row.repeats_agreeing} of {row.repeats}", row.repeats_agreeing),
        ]
        for number, row in zip(
            claims.groupby("claim", sort=False).ngroup() + 1, _rows(claims), strict=True
        )
    ]
    headings = (
        *("Comparison", "Verdict", "Claim", "n", "Effect [interval]"),
        *("Smallest that matters", "Corrected p", "Alike"),
    )
    return Table("Parts of the claims", headings, frozenset(range(2, 8)), rows)


def measures_table(means: pd.DataFrame) -> Table:
    """Mean measures of each configuration with their intervals over the test subjects."""
    shown = [(LESIONS, metric) for metric in MEASURES] + [(REGIONS_MEAN, "dice")]
    found = {(row.model, row.inputs_given, row.structure, row.metric): row for row in _rows(means)}
    configurations = list(dict.fromkeys(key[:2] for key in found))
    models = in_order((model for model, _ in configurations), MODELS)
    configurations.sort(key=lambda configuration: models.index(configuration[0]))
    rows = [
        [Cell(configuration_name(model, given)), Cell(_together(given.replace("+", " + ")))]
        + [_mean(found.get((model, given, *measure)), measure[1]) for measure in shown]
        for model, given in configurations
    ]
    headings = ("Configuration", "Given", *(measure.label for measure in MEASURES.values()))
    numeric = frozenset(range(2, 3 + len(MEASURES)))
    return Table("Mean measures by configuration", (*headings, "Region Dice"), numeric, rows)


def comparisons_table(comparisons: pd.DataFrame) -> Table:
    """Every planned comparison: paired difference, effect size and corrected p."""
    rows = [
        [
            Cell(f"{_side(row, 'a')} minus {_side(row, 'b')}"),
            Cell(_measure_name(row.structure, row.metric)),
            Cell(row.family[0].upper() + row.family[1:]),
            Cell(str(row.n)),
            Cell(
                with_interval(row.mean_difference, row.ci_low, row.ci_high, row.metric, True),
                _known(row.mean_difference),
            ),
            Cell(signed(row.rank_biserial), _known(row.rank_biserial)),
            _p(row.p_holm),
        ]
        for row in _rows(comparisons)
    ]
    headings = (
        *("Comparison", "Measure", "Family", "n", "Mean difference [interval]"),
        *("Rank-biserial effect", "Corrected p"),
    )
    return Table("Comparisons", headings, frozenset({3, 4, 5, 6}), rows)


def burden_table(burden: pd.DataFrame, agreement: pd.DataFrame | None) -> Table:
    """Mean lesion volume by region, true and as each source finds it, with its agreement."""
    means = burden.groupby(["region", "region_name", "source"])[
        ["lesion_ml", "percent_of_region", "share_of_lesions"]
    ].mean()
    others = [source for source in in_order(burden["source"], SOURCES) if source != "truth"]
    icc = {}
    if agreement is not None:
        icc = agreement.groupby(["source", "region"])["icc"].mean().to_dict()
    rows = []
    for region, name in means.index.droplevel("source").unique():
        of_region = means.loc[(region, name)].to_dict("index")
        truth = of_region.get("truth", {})
        row = [
            Cell(name, region),
            _number(truth.get("lesion_ml"), "dice"),
            _number(truth.get("percent_of_region"), "percent"),
            _number(100 * truth.get("share_of_lesions", np.nan), "percent"),
        ]
        for source in others:
            row.append(_number(of_region.get(source, {}).get("lesion_ml"), "dice"))
            row.append(_number(icc.get((source, str(region))), "dice"))
        rows.append(row)
    headings = ["Region", "Truth, ml", "Truth, % of region", "Truth, % of all lesion"]
    for source in others:
        headings += [f"{SOURCES[source].name}, ml", f"{SOURCES[source].name}, ICC(A,1)"]
    numeric = frozenset(range(1, len(headings)))
    return Table("Lesion burden by region", tuple(headings), numeric, rows)


def _rows(table: pd.DataFrame) -> Iterable:
    return table.itertuples(index=False)


def _scanner(scanner: str) -> str:
    return scanner_name(scanner).replace("\n", ", ")


def _first_upper(comparison: str) -> str:
    text = readable(comparison)
    return text[0].upper() + text[1:]


def _evidence(row: object) -> str:
    if not row.n:
        return "not measured"
    test = "no test" if np.isnan(row.p_holm) else f"corrected {_together(p_text(row.p_holm))}"
    count = _together(f"n = {row.n}")
    return f"{effect_text(row)}, {test}, {count} ({row.smallest_difference:g} matters)"


def _together(text: str) -> str:
    """A text that does not break into lines."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _mean(row: object | None, metric: str) -> Cell:
    """A mean with its interval, and n where a subject has no value."""
    if row is None or np.isnan(row.mean):
        return Cell(NONE)
    fewer = f" (n = {row.n})" if row.n_missing else ""
    return Cell(with_interval(row.mean, row.ci_low, row.ci_high, metric) + fewer, row.mean)


def _side(row: object, side: str) -> str:
    return configuration_name(getattr(row, f"model_{side}"), getattr(row, f"inputs_{side}"))


def _measure_name(structure: str, metric: str) -> str:
    label = MEASURES[metric].label if metric in MEASURES else metric.replace("_", " ")
    return f"Region {label}" if structure == REGIONS_MEAN else label


def _number(value: float | None, metric: str) -> Cell:
    known = None if value is None else _known(value)
    return Cell(NONE) if known is None else Cell(printed(known, metric), known)


def _p(p: float) -> Cell:
    if np.isnan(p):
        return Cell(NONE)
    return Cell(p_text(p).removeprefix("p ").removeprefix("= "), p)


def _known(value: float) -> float | None:
    """A number as the page sorts by it; none for NaN."""
    return None if np.isnan(value) else float(value)
