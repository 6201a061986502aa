"""Figure 10: the paper's claims, each with its effects and its verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.figures import parts, style
from wmh.figures.printed import effect_text, p_text, readable
from wmh.study import Study

VERDICTS = {
    "supported": (style.BLUE, "o"),
    "inconclusive": (style.GREY, "D"),
    "not supported": (style.VERMILION, "X"),
    "not judged": (style.GREY, "D"),
}
"""Colour and marker of each verdict."""

LEAST, MOST = -5.0, 15.0
"""Ends of the axis, in units of the smallest effect that matters; values beyond become arrows."""

ROW_MM = 6.2


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """A line per claim with its verdict; below it a line per part: effect, interval, numbers."""
    claims = parts.read_table(study, "claims")
    figure = style.new_figure(ROW_MM * (len(claims) + 1.25 * claims["claim"].nunique()) + 14)
    figure.get_layout_engine().set(wspace=0, w_pad=0.02)
    words, axes, numbers = figure.subplots(1, 3, width_ratios=(1.55, 0.95, 1.05), sharey=True)
    words.set_zorder(2)
    axes.patch.set_visible(False)
    at = 0.0
    for _, claim in claims.groupby("claim", sort=False):
        verdict = claim["claim_verdict"].iloc[0]
        bold, small = {"va": "center", "fontweight": "bold"}, {"va": "center", "fontsize": 6}
        words.text(0, at, claim["sentence"].iloc[0], fontsize=6.5, zorder=5, **bold)
        numbers.text(1, at, verdict, ha="right", color=VERDICTS[verdict][0], **bold)
        for side in (words, axes, numbers):
            side.axhline(at - 0.62, color=style.PALE, lw=0.8, zorder=0)
        for _, row in claim.iterrows():
            at += 1
            words.text(0.03, at, readable(row["comparison"]), **small)
            draw_effect(axes, at, row)
            if np.isnan(row["mean_difference"]):
                numbers.text(0.03, at, "not measured", color=style.GREY, **small)
                continue
            numbers.text(0.03, at, effect_text(row), **small)
            test = "no test" if np.isnan(row["p_holm"]) else p_text(row["p_holm"])
            numbers.text(1, at, f"{test}, n = {row['n']:.0f}", ha="right", **small)
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
    of_claims = claims.drop_duplicates("claim")["claim_verdict"].value_counts()
    verdicts = ", ".join(f"{of_claims.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    level = 100 * (1 - study.evaluation.alpha)
    cohort = parts.read_table(study, "cohort")
    tested = cohort.loc[cohort["split"] == "test", "id"]
    return figure, (
        "The paper's claims at a glance. Each part of a claim is an effect that is large and "
        "positive if the claim holds. Points: mean difference, or ICC of the agreement; lines: "
        f"{level:g} % interval (bootstrap; of the agreement, jackknife). "
        "The axis is in units of the smallest effect that matters "
        "(dashed; beyond it, grey). Filled triangles: the mean lies beyond the axis; hollow: the "
        "interval does. Supported: the whole interval lies in the grey and the test agrees. Not "
        "supported: it lies left of the grey. Inconclusive: neither, or too few subjects for "
        "any test. Not judged: this study has no model for it. Right: the effect with "
        "its interval in its own unit, and p of the two-sided paired Wilcoxon signed-rank test "
        f"with Holm's correction over these {claims['p_holm'].notna().sum()} tests (the agreement "
        f"has none). Verdicts are computed from these numbers: {verdicts}. "
        f"{parts.cohort_words(study, tested)}"
    )


def draw_effect(axes: Axes, at: float, row: pd.Series) -> None:
    """One part of a claim: mean and interval, in units of the smallest effect that matters."""
    axes.fill_between([1, MOST], at - 0.5, at + 0.5, color="#efefef", lw=0, zorder=0)
    axes.vlines(1, at - 0.5, at + 0.5, color=style.BLACK, lw=0.8, ls=(0, (3, 2)))
    axes.vlines(0, at - 0.5, at + 0.5, color=style.GREY, lw=0.6)
    if np.isnan(row["mean_difference"]):
        return
    colour, marker = VERDICTS[row["verdict"]]
    numbers = row[["ci_low", "mean_difference", "ci_high"]].astype(float)
    known = (numbers / abs(row["smallest_difference"])).to_numpy()
    low, effect, high = np.clip(known, LEAST, MOST)
    axes.plot([low, high], [at, at], color=colour, lw=1.4)
    for end, unclipped, beyond in ((low, known[0], "<"), (high, known[2], ">")):
        if end == unclipped:  # a cap higher than the mean's marker
            axes.plot(end, at, "|", color=colour, ms=8, mew=1.1)
        elif not np.isnan(end):
            axes.plot(end, at, beyond, mec=colour, mfc="white", ms=4, mew=0.9, clip_on=False)
    if effect != known[1]:
        marker = ">" if effect > 0 else "<"
    axes.plot(effect, at, marker, color=colour, ms=4.5, mec="white", mew=0.4, clip_on=False)
