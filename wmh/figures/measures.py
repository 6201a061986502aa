"""Figure 3: the five measures by configuration, and the paired differences that were tested."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from wmh.figures.parts import (
    cohort_words,
    draw_differences,
    draw_points,
    lesion_values,
    lesion_values_by_repeat,
    of_configuration,
    own_configurations,
    pair_key,
    pair_name,
    read_table,
    root_scale,
    round_below,
    subject_differences,
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
    configurations: list[tuple[str, str]]
    pairs: pd.DataFrame
    alpha: float
    caption: str


def load_measures(study: Study) -> Measures:
    """The five measures of every model given the images it was made for."""
    values, comparisons = lesion_values(study), read_table(study, "comparisons")
    configurations = own_configurations(values)
    pairs = tested_pairs(comparisons, configurations, list(MEASURES))
    alpha = study.evaluation.alpha
    by_repeat = lesion_values_by_repeat(study).groupby(["model", "inputs_given", "repeat"])
    repeat_means = by_repeat[list(MEASURES)].mean()
    caption = _caption(study, values, pairs, comparisons, repeat_means["dice"])
    return Measures(values, repeat_means, configurations, pairs, alpha, caption)


@styled
def plot_measures(data: Measures) -> StyledFigure:
    """Above, a point a subject and the mean; below, the paired differences that were tested."""
    tested = data.pairs.drop_duplicates(["model_a", "inputs_a", "model_b", "inputs_b"])
    heights = [len(data.configurations) * 7.5 + 6, len(tested) * 9 + 6]
    figure = new_figure(DOUBLE_COLUMN, sum(heights) + 14)
    above, below = figure.subplots(2, len(MEASURES), height_ratios=heights, sharey="row")
    for (metric, measure), upper, lower in zip(MEASURES.items(), above, below, strict=True):
        upper.set_title(measure.label)
        upper.set_xlabel(
            "higher is better →" if measure.higher_is_better else "← lower is better", fontsize=6
        )
        _draw_values(upper, data, metric)
        pairs = _in_order_of(data.pairs[data.pairs["metric"] == metric], tested)
        differences = subject_differences(data.scores, pairs, metric)
        draw_differences(lower, pairs, differences, data.alpha)
        lower.set_xlabel(f"difference in {measure.label}", fontsize=6)
    above[0].set_yticks(
        range(len(data.configurations)), [configuration_name(*c) for c in data.configurations]
    )
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


def _in_order_of(pairs: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    place = {pair_key(row): at for at, (_, row) in enumerate(tested.iterrows())}
    order = [place[pair_key(row)] for _, row in pairs.iterrows()]
    return pairs.assign(order=order).sort_values("order").set_index("order")


def _caption(
    study: Study,
    values: pd.DataFrame,
    pairs: pd.DataFrame,
    comparisons: pd.DataFrame,
    dice_of_repeats: pd.Series,
) -> str:
    subjects = values["subject"].nunique()
    own = pd.concat([of_configuration(values, *c) for c in own_configurations(values)])
    empty = int(own["hd95_mm"].isna().sum())
    undefined = (
        f" HD95 is undefined for {empty} of {len(own)} predictions, empty ones, and left out there."
        if empty
        else ""
    )
    return (
        "The challenge's five measures by input configuration. (a) One point a subject; bars are "
        f"means; AVD on a square-root axis.{undefined}{_repeat_words(dice_of_repeats)} (b) "
        "Paired differences, one grey point a subject. "
        f"{test_words(comparisons, list(pairs['family'].unique()), study.evaluation.alpha)} "
        f"{cohort_words(study, subjects)}"
    )


def _repeat_words(dice: pd.Series) -> str:
    """How far the repeats lie apart; nothing where there is one."""
    spread = dice.groupby(["model", "inputs_given"]).agg(["size", "std"])
    count = int(spread["size"].max())
    if count == 1:
        return ""
    return (
        f" Points are means over {count} trainings with other seeds; ticks below a row, the mean "
        f"of each training (standard deviation in Dice at most {spread['std'].max():.3f})."
    )
