"""Figure 4: each model when one of the two images is missing."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from wmh.figures import parts, style
from wmh.learning.inputs import GIVEN_TITLES
from wmh.study import Study

SHOWN = ("dice", "lesion_f1")


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """A row per measure: every model given both images, FLAIR only and T1 only.

    The panels beside show the paired differences that were tested with an image missing.
    """
    values, comparisons = parts.lesion_values(study), parts.read_table(study, "comparisons")
    models, alpha = style.in_order(values["model"], style.MODELS), study.evaluation.alpha
    every = list(zip(values["model"], values["inputs_given"], strict=True))
    pairs = parts.tested_pairs(comparisons, every, SHOWN)
    complete = [pairs[f"inputs_{s}"] == pairs[f"model_{s}"].map(style.own_inputs) for s in "ab"]
    pairs = pairs[~(complete[0] & complete[1])]
    rows = pairs["metric"].value_counts().max() if len(pairs) else 1
    figure = style.new_figure(len(SHOWN) * max(48, 9 * rows + 14) + 8)
    grid = figure.subplots(len(SHOWN), 2, width_ratios=(1.7, 1))
    for metric, names, (left, right) in zip(SHOWN, ("ab", "cd"), grid, strict=True):
        _draw_values(left, values, models, metric)
        parts.draw_differences(right, pairs[pairs["metric"] == metric], values, metric, alpha)
        right.set_xlabel(f"difference in {style.MEASURES[metric].label}")
        style.letter(left, names[0])
        style.letter(right, names[1])
    parts.draw_legend(figure, {style.look_of(model).name: style.look_of(model) for model in models})
    return figure, (
        "A missing image. (a, c) Dice and lesion F1 of each model when given both images, only "
        "FLAIR or only T1; the concatenated model gets zeros for the missing one. The models "
        "of a single image are shown for reference. One point per subject, bars are means. "
        f"(b, d) Paired differences. {parts.test_words(comparisons, pairs, alpha)} "
        f"{parts.means_words(study)}{parts.cohort_words(study, values['subject'])}"
    )


def _draw_values(axes: Axes, values: pd.DataFrame, models: list[str], metric: str) -> None:
    at, ticks = 0.0, []
    for given, name in GIVEN_TITLES.items():
        first = at
        for model in models:
            chosen = parts.of_configuration(values, model, given)
            if len(chosen):
                parts.draw_points(axes, chosen[metric], at, style.look_of(model), upright=True)
                at += 1
        ticks.append(((first + at - 1) / 2, f"given {name}"))
        if given != list(GIVEN_TITLES)[-1]:
            axes.axvline(at, color=style.PALE, lw=0.8, zorder=0)
        at += 1
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.tick_params("x", length=0)
    axes.set(ylim=(-0.03, 1.03), ylabel=style.MEASURES[metric].label)
