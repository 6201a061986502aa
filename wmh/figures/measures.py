"""Figure 3: the five measures by configuration, and the paired differences that were tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.figures.parts import (
    SIDES_OF_PAIR,
    Configuration,
    cohort_words,
    draw_differences,
    draw_points,
    lesion_values,
    lesion_values_by_repeat,
    of_configuration,
    own_configurations,
    pair_name,
    read_table,
    root_scale,
    test_words,
    tested_pairs,
)
from wmh.figures.style import (
    BLACK,
    DOUBLE_COLUMN,
    MEASURES,
    StyledFigure,
    configuration_name,
    letter,
    look_of,
    new_figure,
    styled,
)
from wmh.study import Study


@dataclass(frozen=True)
class Measures:
    """``scores`` by subject and configuration; ``pairs``: the comparisons among those shown.

    ``repeat_means``: the mean over subjects of each measure by configuration and repeat.
    """

    scores: pd.DataFrame
    repeat_means: pd.DataFrame
    configurations: list[Configuration]
    pairs: pd.DataFrame
    alpha: float
    caption: str


def load_measures(study: Study) -> Measures:
    """The five measures of every model given the images it was made for."""
    values, comparisons = lesion_values(study), read_table(study, "comparisons")
    configurations, alpha = own_configurations(values), study.evaluation.alpha
    pairs = tested_pairs(comparisons, configurations, MEASURES)
    by_repeat = lesion_values_by_repeat(study).groupby(["model", "inputs_given", "repeat"])
    repeat_means = by_repeat[list(MEASURES)].mean()
    hd95 = pd.concat([of_configuration(values, *c)["hd95_mm"] for c in configurations])
    undefined = (
        f" HD95 is undefined for {hd95.isna().sum()} of {len(hd95)} predictions, empty ones, and "
        "left out there."
        if hd95.isna().any()
        else ""
    )
    caption = (
        "The challenge's five measures by input configuration. (a) One point per subject; bars are "
        f"means; AVD on a square-root axis.{undefined}{_repeat_words(repeat_means['dice'])} (b) "
        "Paired differences, one grey point per subject. "
        f"{test_words(comparisons, pairs['family'].unique(), alpha)} "
        f"{cohort_words(study, values['subject'].nunique())}"
    )
    return Measures(values, repeat_means, configurations, pairs, alpha, caption)


@styled
def plot_measures(data: Measures) -> StyledFigure:
    """Above, a point per subject and the mean; below, the paired differences that were tested."""
    tested = data.pairs[SIDES_OF_PAIR].drop_duplicates()
    heights = [len(data.configurations) * 7.5 + 6, len(tested) * 9 + 6]
    figure = new_figure(DOUBLE_COLUMN, sum(heights) + 14)
    above, below = figure.subplots(2, len(MEASURES), height_ratios=heights, sharey="row")
    for (metric, measure), upper, lower in zip(MEASURES.items(), above, below, strict=True):
        upper.set_title(measure.label)
        upper.set_xlabel(
            "higher is better →" if measure.higher_is_better else "← lower is better", fontsize=6
        )
        _draw_values(upper, data, metric)
        pairs = tested.merge(data.pairs[data.pairs["metric"] == metric], "left", SIDES_OF_PAIR)
        draw_differences(lower, pairs, data.scores, metric, data.alpha)
        lower.set_xlabel(f"difference in {measure.label}", fontsize=6)
    names = [configuration_name(*c) for c in data.configurations]
    above[0].set_yticks(range(len(names)), names)
    above[0].invert_yaxis()
    below[0].set_yticks(range(len(tested)), [pair_name(row) for _, row in tested.iterrows()])
    for row, name in ((above, "a"), (below, "b")):
        letter(row[0], name)
        for axes, metric in zip(row, MEASURES, strict=True):
            axes.tick_params("y", length=0)
            axes.spines["left"].set_visible(False)
            if metric != "avd_percent":
                axes.locator_params("x", nbins=4)
                continue
            limits = axes.get_xlim()
            largest = round_below(max(map(abs, limits)))
            root_scale(axes, "x", [largest] if limits[0] else [largest / 10, largest])
    return figure


def round_below(limit: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above ``limit``.

    >>> round_below(3900), round_below(0.7)
    (2000.0, 0.5)
    """
    power = 10.0 ** np.floor(np.log10(limit))
    return float(max(step * power for step in (1, 2, 5) if step * power <= limit))


def _draw_values(axes: Axes, data: Measures, metric: str) -> None:
    for at, (model, given) in enumerate(data.configurations):
        values = of_configuration(data.scores, model, given)[metric].to_numpy()
        draw_points(axes, values, at, look_of(model), upright=False)
        means = data.repeat_means.loc[(model, given), metric]
        if len(means) > 1:
            axes.plot(means, [at + 0.43] * len(means), "|", color=BLACK, ms=4, mew=0.7)
    if MEASURES[metric].higher_is_better:
        axes.set_xlim(-0.02, 1.02)
    else:
        axes.set_xlim(left=0)


def _repeat_words(dice: pd.Series) -> str:
    """Spread of the repeats; nothing where there is one."""
    apart = dice.groupby(["model", "inputs_given"]).agg(["size", "std"])
    count = int(apart["size"].max())
    if count == 1:
        return ""
    return (
        f" Points are means over {count} trainings with other seeds; ticks below a row, the mean "
        f"of each training (standard deviation in Dice at most {apart['std'].max():.3f})."
    )
