"""Figure 5: each configuration on each scanner, those seen in training and those not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.figures.parts import (
    Configuration,
    cohort_words,
    draw_legend,
    draw_points,
    lesion_values,
    of_configuration,
    own_configurations,
    read_table,
)
from wmh.figures.style import (
    DOUBLE_COLUMN,
    GREY,
    MEASURES,
    SCANNERS,
    StyledFigure,
    configuration_name,
    in_order,
    letter,
    look_of,
    new_figure,
    scanner_name,
    styled,
)
from wmh.study import Study

SHOWN = ("dice", "hd95_mm", "lesion_f1")


@dataclass(frozen=True)
class Scanners:
    """``scores`` by subject and configuration; the scanners, those seen in training first."""

    scores: pd.DataFrame
    configurations: list[Configuration]
    seen: list[str]
    unseen: list[str]
    caption: str


def load_scanners(study: Study) -> Scanners:
    """Measures by scanner; a scanner is seen when the cohort's training split holds it."""
    values, cohort = lesion_values(study), read_table(study, "cohort")
    trained_on = set(cohort.loc[cohort["split"] == "training", "scanner"])
    scanners = in_order(values["scanner"], SCANNERS)
    seen = [s for s in scanners if s in trained_on]
    unseen = [s for s in scanners if s not in trained_on]
    counts = values.drop_duplicates("subject")["scanner"].isin(seen)
    if unseen:
        order = "scanners with training subjects, then scanners the models never saw"
        means = (
            f"the {counts.sum()} subjects of seen and the {(~counts).sum()} of unseen scanners. Of "
            "these gaps, those in Dice of the four input configurations are tested in notebook 6, "
            "no others"
        )
    else:
        order, means = "all have training subjects", f"all {counts.sum()} subjects"
    caption = (
        f"Each configuration by scanner: {order}. Left: one point per subject, bars are means. "
        f"Right: means over {means}. {cohort_words(study, values['subject'].nunique())}"
    )
    return Scanners(values, own_configurations(values), seen, unseen, caption)


@styled
def plot_scanners(data: Scanners) -> StyledFigure:
    """A row per measure: points by scanner, and the means over seen and unseen scanners."""
    figure = new_figure(DOUBLE_COLUMN, 45 * len(SHOWN) + 14)
    grid = figure.subplots(len(SHOWN), 2, width_ratios=(5, 1), sharey="row", sharex="col")
    for metric, name, (left, right) in zip(SHOWN, "abc", grid, strict=True):
        _draw_by_scanner(left, data, metric)
        _draw_means(right, data, metric)
        left.set_ylabel(MEASURES[metric].label)
        left.set_ylim((-0.03, 1.03) if MEASURES[metric].higher_is_better else (0, None))
        letter(left, name)
    draw_legend(figure, {configuration_name(*c): c[0] for c in data.configurations})
    return figure


def seen_and_unseen_means(
    data: Scanners, model: str, given: str, metric: str
) -> tuple[float, float]:
    """Mean of a measure over subjects of seen and of unseen scanners; NaN where there are none."""
    values = of_configuration(data.scores, model, given)
    seen, unseen = (
        values.loc[values["scanner"].isin(scanners), metric].mean()
        for scanners in (data.seen, data.unseen)
    )
    return seen, unseen


def _draw_by_scanner(axes: Axes, data: Scanners, metric: str) -> None:
    step = len(data.configurations) + 1.5
    ticks = []
    for place, scanner in enumerate(data.seen + data.unseen):
        there = data.scores[data.scores["scanner"] == scanner]
        for at, (model, given) in enumerate(data.configurations):
            values = of_configuration(there, model, given)[metric].to_numpy()
            draw_points(axes, values, place * step + at, look_of(model), upright=True)
        name = f"{scanner_name(scanner)}\nn = {there['subject'].nunique()}"
        ticks.append((place * step + (step - 2.5) / 2, name))
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.tick_params("x", length=0)
    if data.seen and data.unseen:
        border = len(data.seen) * step - 1.25
        axes.axvline(border, color=GREY, lw=0.8, ls=(0, (4, 3)))
        for text, shift, side in (("← seen", -4, "right"), ("unseen →", 4, "left")):
            place = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
            words = {"ha": side, "va": "top", "color": GREY, "fontsize": 6}
            axes.annotate(text, (border, 1), (shift, -1), **place, **words)


def _draw_means(axes: Axes, data: Scanners, metric: str) -> None:
    for model, given in data.configurations:
        look = look_of(model)
        means = seen_and_unseen_means(data, model, given, metric)
        places = np.arange(2)[~np.isnan(means)]
        axes.plot(places, np.array(means)[places], color=look.colour, marker=look.marker, ms=3.5)
    shown = {"seen": data.seen, "unseen": data.unseen}
    axes.set_xticks(*zip(*((at, n) for at, n in enumerate(shown) if shown[n]), strict=True))
    axes.set_xlim(-0.3, 1.3)
