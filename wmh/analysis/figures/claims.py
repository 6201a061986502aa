"""Figure 10: the paper's claims, each with its effect and its verdict."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.analysis.figures.parts import cohort_words, p_text, read_table
from wmh.analysis.style import (
    BLUE,
    DOUBLE_COLUMN,
    GREY,
    MINUS,
    PALE,
    VERMILION,
    StyledFigure,
    new_figure,
    styled,
)
from wmh.study import Study

VERDICTS = {
    "supported": (BLUE, "o"),
    "inconclusive": (GREY, "D"),
    "not supported": (VERMILION, "X"),
}
"""Colour and marker of each verdict."""

FARTHEST = 12.0
"""Effects beyond this many smallest differences are drawn at the edge, as an arrow."""


@dataclass(frozen=True)
class Claims:
    """The rows of ``claims.csv``, with effect and interval in smallest differences that matter."""

    rows: pd.DataFrame
    caption: str


def load_claims(study: Study) -> Claims:
    """The claims table, scaled so that differences in any unit share one axis."""
    rows = scale_to_smallest(read_table(study, "claims"))
    counts = rows["verdict"].value_counts()
    verdicts = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    caption = (
        "The paper's claims at a glance. Points: mean paired difference; lines: 95 % bootstrap "
        "interval, both in units of the smallest difference that matters for the claim (grey "
        "band: smaller than that; arrow: beyond the axis). At the right the difference in its own "
        "unit with its interval, and the Holm-corrected p of the two-sided Wilcoxon signed-rank "
        "test. Verdicts are computed from these "
        f"numbers: {verdicts}. {cohort_words(study, int(rows['n'].max()))}"
    )
    return Claims(rows, caption)


def scale_to_smallest(claims: pd.DataFrame) -> pd.DataFrame:
    """Add ``effect``, ``low`` and ``high``: differences over the smallest one that matters."""
    unit = claims["smallest_difference"].abs()
    return claims.assign(
        effect=claims["mean_difference"] / unit,
        low=claims["ci_low"] / unit,
        high=claims["ci_high"] / unit,
    )


@styled
def plot_claims(data: Claims) -> StyledFigure:
    """A row a comparison: the claim, its effect with interval, its numbers and its verdict."""
    figure = new_figure(DOUBLE_COLUMN, 10 * len(data.rows) + 16)
    words, axes, numbers = figure.subplots(1, 3, width_ratios=(1.5, 1.3, 1), sharey=True)
    axes.axvspan(-1, 1, color=PALE, lw=0, zorder=0)
    axes.axvline(0, color=GREY, lw=0.6)
    for at, (_, row) in enumerate(data.rows.iterrows()):
        words.text(0, at, textwrap.fill(str(row["sentence"]), 48), va="center")
        _draw_effect(axes, at, row)
        _print_numbers(numbers, at, row)
    for side in (words, numbers):
        side.axis("off")
    axes.tick_params("y", length=0, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(-FARTHEST, FARTHEST), ylim=(len(data.rows) - 0.4, -0.6))
    axes.set_xlabel("difference / smallest difference that matters")
    return figure


def _draw_effect(axes: Axes, at: int, row: pd.Series) -> None:
    colour, marker = VERDICTS[row["verdict"]]
    low, effect, high = np.clip(row[["low", "effect", "high"]].astype(float), -FARTHEST, FARTHEST)
    axes.plot([low, high], [at, at], color=colour, lw=1.4, clip_on=False)
    beyond = abs(row["effect"]) > FARTHEST
    arrow = ">" if row["effect"] > 0 else "<"
    axes.plot(effect, at, arrow if beyond else marker, color=colour, ms=5.5, clip_on=False)


def _print_numbers(axes: Axes, at: int, row: pd.Series) -> None:
    interval = f"[{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]".replace("-", MINUS)
    effect = f"{row['mean_difference']:+.3f}".replace("-", MINUS)
    colour, _ = VERDICTS[row["verdict"]]
    axes.text(0, at - 0.06, row["verdict"], va="bottom", color=colour, fontweight="bold")
    axes.text(0, at, f"{effect} {interval}", va="top", fontsize=6)
    test = f"{p_text(row['p_holm'])}, n = {row['n']:.0f}"
    axes.text(1, at - 0.06, test, va="bottom", ha="right", fontsize=6)
