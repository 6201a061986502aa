"""Figure 4: each model when one of the two images is missing."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from wmh.figures.parts import (
    cohort_words,
    draw_differences,
    draw_legend,
    draw_points,
    lesion_values,
    of_configuration,
    pair_name,
    read_table,
    test_words,
    tested_pairs,
)
from wmh.figures.style import (
    DOUBLE_COLUMN,
    MEASURES,
    MODELS,
    PALE,
    StyledFigure,
    in_order,
    letter,
    look_of,
    new_figure,
    own_inputs,
    styled,
)
from wmh.learning.inputs import GIVEN_TITLES
from wmh.study import Study

SHOWN = ("dice", "lesion_f1")


@dataclass(frozen=True)
class Missing:
    """``scores`` by subject, model and images given; ``pairs`` with an image missing."""

    scores: pd.DataFrame
    models: list[str]
    pairs: pd.DataFrame
    alpha: float
    caption: str


def load_missing(study: Study) -> Missing:
    """Dice and lesion F1 of every model, given both images, FLAIR only and T1 only."""
    values, comparisons = lesion_values(study), read_table(study, "comparisons")
    every = list(zip(values["model"], values["inputs_given"], strict=True))
    pairs = tested_pairs(comparisons, every, SHOWN)
    complete = [pairs[f"inputs_{s}"] == pairs[f"model_{s}"].map(own_inputs) for s in "ab"]
    pairs, alpha = pairs[~(complete[0] & complete[1])], study.evaluation.alpha
    caption = (
        "A missing image. (a, c) Dice and lesion F1 of each model when given both images, only "
        "FLAIR or only T1; the concatenated model gets zeros for the missing one; the models of a "
        "single image stand beside them for reference. One point per subject, bars are means. "
        f"(b, d) Paired differences. {test_words(comparisons, pairs['family'].unique(), alpha)} "
        f"{cohort_words(study, values['subject'].nunique())}"
    )
    return Missing(values, in_order(values["model"], MODELS), pairs, alpha, caption)


@styled
def plot_missing(data: Missing) -> StyledFigure:
    """A row per measure: values by what was given, and the paired differences that were tested."""
    tested = data.pairs["metric"].value_counts().max() if len(data.pairs) else 1
    figure = new_figure(DOUBLE_COLUMN, len(SHOWN) * max(48, 9 * tested + 14) + 8)
    grid = figure.subplots(len(SHOWN), 2, width_ratios=(1.7, 1))
    for metric, names, (left, right) in zip(SHOWN, ("ab", "cd"), grid, strict=True):
        _draw_values(left, data, metric)
        letter(left, names[0])
        pairs = data.pairs[data.pairs["metric"] == metric]
        draw_differences(right, pairs, data.scores, metric, data.alpha)
        right.set_yticks(range(len(pairs)), [pair_name(row) for _, row in pairs.iterrows()])
        right.tick_params("y", length=0)
        right.locator_params("x", nbins=4)
        right.spines["left"].set_visible(False)
        right.set_xlabel(f"difference in {MEASURES[metric].label}")
        letter(right, names[1])
    draw_legend(figure, {look_of(model).name: model for model in data.models})
    return figure


def _draw_values(axes: Axes, data: Missing, metric: str) -> None:
    at, ticks = 0.0, []
    for given, name in GIVEN_TITLES.items():
        first = at
        for model in data.models:
            chosen = of_configuration(data.scores, model, given)
            if len(chosen):
                draw_points(axes, chosen[metric].to_numpy(), at, look_of(model), upright=True)
                at += 1
        ticks.append(((first + at - 1) / 2, f"given {name}"))
        if given != list(GIVEN_TITLES)[-1]:
            axes.axvline(at, color=PALE, lw=0.8, zorder=0)
        at += 1
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.tick_params("x", length=0)
    axes.set(ylim=(-0.03, 1.03), ylabel=MEASURES[metric].label)
