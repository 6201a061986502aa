"""Figure 10: the paper's claims, each with its effects and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.figures.parts import cohort_words, read_table
from wmh.figures.printed import effect_text, p_text, readable
from wmh.figures.style import (
    BLACK,
    BLUE,
    DOUBLE_COLUMN,
    GREY,
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
    "not judged": (GREY, "D"),
}
"""Colour and marker of each verdict."""

LEAST, MOST = -5.0, 15.0
"""Ends of the axis, in smallest effects that matter; what lies beyond is an arrow at the end."""

ROW_MM = 6.2


@dataclass(frozen=True)
class Claims:
    """The rows of ``claims.csv``, one per part of a claim, with effects in smallest that matter."""

    rows: pd.DataFrame
    caption: str


def load_claims(study: Study) -> Claims:
    """The claims table, scaled so that effects in any unit share one axis."""
    rows = scale_to_smallest(read_table(study, "claims"))
    of_claims = rows.drop_duplicates("claim")["claim_verdict"].value_counts()
    verdicts = ", ".join(f"{of_claims.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    tests = int(rows["p_holm"].notna().sum())
    level = 100 * (1 - study.evaluation.alpha)
    caption = (
        "The paper's claims at a glance. Each part of a claim is an effect that is large and "
        f"positive if the claim holds: points, its mean; lines, {level:g} % interval (bootstrap; "
        "of the agreement, jackknife); in units of the smallest effect that matters (dashed; "
        "beyond it, grey). Filled triangles: the mean lies beyond the axis; hollow: the interval "
        "does. Supported: the whole interval lies in the grey and the test agrees; not "
        "supported: the whole interval lies left of it; else, or with "
        "too few subjects for any test, inconclusive; not judged: no model "
        "of this study was trained for it. Right: the effect with "
        "its interval in its own unit, and p of the two-sided paired Wilcoxon signed-rank test "
        f"with Holm's correction over these {tests} tests (agreement has an interval and no test). "
        f"Verdicts are computed from these numbers: {verdicts}. "
        f"{cohort_words(study, int(rows['n'].max()))}"
    )
    return Claims(rows, caption)


def scale_to_smallest(claims: pd.DataFrame) -> pd.DataFrame:
    """Add ``effect``, ``low`` and ``high``: effects over the smallest one that matters."""
    unit = claims["smallest_difference"].abs()
    return claims.assign(
        effect=claims["mean_difference"] / unit,
        low=claims["ci_low"] / unit,
        high=claims["ci_high"] / unit,
    )


@styled
def plot_claims(data: Claims) -> StyledFigure:
    """A line per claim with its verdict; below it, one per part: effect, interval, numbers."""
    count = len(data.rows) + 1.25 * data.rows["claim"].nunique()
    figure = new_figure(DOUBLE_COLUMN, ROW_MM * count + 14)
    figure.get_layout_engine().set(wspace=0, w_pad=0.02)
    words, axes, numbers = figure.subplots(1, 3, width_ratios=(1.55, 0.95, 1.05), sharey=True)
    words.set_zorder(2)
    axes.patch.set_visible(False)
    at = 0.0
    for _, claim in data.rows.groupby("claim", sort=False):
        _print_claim(words, axes, numbers, at, claim.iloc[0])
        for _, row in claim.iterrows():
            at += 1
            words.text(0.03, at, readable(row["comparison"]), va="center", fontsize=6)
            draw_effect(axes, at, row)
            _print_numbers(numbers, at, row)
        at += 1.25
    for side in (words, numbers):
        side.axis("off")
        side.set_xlim(0, 1)
        for text in side.texts:
            text.set_in_layout(False)  # or the layout would make room for the words beside the axes
    axes.tick_params("y", length=0, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(LEAST, MOST), ylim=(at - 0.4, -0.7))
    axes.set_xlabel("effect / smallest that matters\nthe claim holds →", linespacing=1.5)
    return figure


def _print_claim(words: Axes, axes: Axes, numbers: Axes, at: float, row: pd.Series) -> None:
    colour, _ = VERDICTS[row["claim_verdict"]]
    bold = {"va": "center", "fontweight": "bold"}
    words.text(0, at, row["sentence"], fontsize=6.5, zorder=5, **bold)
    numbers.text(1, at, row["claim_verdict"], ha="right", color=colour, **bold)
    for side in (words, axes, numbers):
        side.axhline(at - 0.62, color=PALE, lw=0.8, zorder=0)


def draw_effect(axes: Axes, at: float, row: pd.Series) -> None:
    """One part of a claim on a line of its own: its mean and interval, in smallest that matter."""
    axes.fill_between([1, MOST], at - 0.5, at + 0.5, color="#efefef", lw=0, zorder=0)
    axes.vlines(1, at - 0.5, at + 0.5, color=BLACK, lw=0.8, ls=(0, (3, 2)))
    axes.vlines(0, at - 0.5, at + 0.5, color=GREY, lw=0.6)
    if np.isnan(row["effect"]):
        return
    colour, marker = VERDICTS[row["verdict"]]
    low, effect, high = np.clip(row[["low", "effect", "high"]].astype(float), LEAST, MOST)
    axes.plot([low, high], [at, at], color=colour, lw=1.4)
    for end, known, beyond in ((low, row["low"], "<"), (high, row["high"], ">")):
        if end == known:  # a cap higher than the mean's marker
            axes.plot(end, at, "|", color=colour, ms=8, mew=1.1)
        elif not np.isnan(known):
            axes.plot(end, at, beyond, mec=colour, mfc="white", ms=4, mew=0.9, clip_on=False)
    if effect != row["effect"]:
        marker = ">" if row["effect"] > 0 else "<"
    axes.plot(effect, at, marker, color=colour, ms=4.5, mec="white", mew=0.4, clip_on=False)


def _print_numbers(axes: Axes, at: float, row: pd.Series) -> None:
    if row["n"] == 0 or np.isnan(row["mean_difference"]):
        axes.text(0.03, at, "not measured", va="center", fontsize=6, color=GREY)
        return
    axes.text(0.03, at, effect_text(row), va="center", fontsize=6)
    test = p_text(row["p_holm"]) if not np.isnan(row["p_holm"]) else "no test"
    axes.text(1, at, f"{test}, n = {row['n']:.0f}", va="center", ha="right", fontsize=6)
