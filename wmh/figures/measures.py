"""Figure 3: the five measures by configuration, and the paired differences that were tested."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wmh.figures import parts, style
from wmh.study import Study


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """The five measures of every model, given the images that it was made for.

    The upper row has a point per subject and the mean, the lower row the tested paired differences.
    """
    values, comparisons = parts.lesion_values(study), parts.read_table(study, "comparisons")
    configurations, alpha = parts.own_configurations(values), study.evaluation.alpha
    pairs = parts.tested_pairs(comparisons, configurations, style.MEASURES)
    sides = ["model_a", "inputs_a", "model_b", "inputs_b"]
    tested = pairs[sides].drop_duplicates()
    by_repeat = parts.lesion_values_by_repeat(study).groupby(["model", "inputs_given", "repeat"])
    repeat_means = by_repeat[list(style.MEASURES)].mean()
    heights = [len(configurations) * 7.5 + 6, len(tested) * 9 + 6]
    figure = style.new_figure(sum(heights) + 14)
    above, below = figure.subplots(2, len(style.MEASURES), height_ratios=heights, sharey="row")
    for (metric, measure), upper, lower in zip(style.MEASURES.items(), above, below, strict=True):
        upper.set_title(measure.label)
        better = "higher is better →" if measure.higher_is_better else "← lower is better"
        upper.set_xlabel(better, fontsize=6)
        for at, configuration in enumerate(configurations):
            scores = parts.of_configuration(values, *configuration)[metric]
            look = style.look_of(configuration[0])
            parts.draw_points(upper, scores, at, look, upright=False)
            means = repeat_means.loc[configuration, metric]
            if len(means) > 1:
                ticks = {"color": style.BLACK, "ms": 4, "mew": 0.7}
                upper.plot(means, [at + 0.43] * len(means), "|", **ticks)
        upper.set_xlim(*((-0.02, 1.02) if measure.higher_is_better else (0, None)))
        parts.bare_rows(upper)
        about = tested.merge(pairs[pairs["metric"] == metric], "left", sides)
        parts.draw_differences(lower, about, values, metric, alpha)
        lower.set_xlabel(f"difference in {measure.label}", fontsize=6)
        if metric == "avd_percent":
            for axes in (upper, lower):
                low, high = axes.get_xlim()
                largest = round_below(max(-low, high))
                parts.root_scale(axes, "x", [largest] if low else [largest / 10, largest])
    names = [style.configuration_name(*c) for c in configurations]
    above[0].set_yticks(range(len(names)), names)
    above[0].invert_yaxis()
    style.letter(above[0], "a")
    style.letter(below[0], "b")
    hd95 = pd.concat([parts.of_configuration(values, *c)["hd95_mm"] for c in configurations])
    undefined = (
        " HD95 is undefined where prediction or truth is empty: "
        f"{hd95.isna().sum()} of {len(hd95)} are left out there."
        if hd95.isna().any()
        else ""
    )
    return figure, (
        "The challenge's five measures by input configuration. (a) One point per subject; bars are "
        "means. HD95: 95th percentile of the Hausdorff distance; AVD: absolute volume difference "
        f"(square-root axis).{undefined}{_repeat_words(repeat_means['dice'])} (b) Paired "
        "differences, one grey point per subject. "
        f"{parts.test_words(comparisons, pairs, alpha)} "
        f"{parts.cohort_words(study, values['subject'])}"
    )


def round_below(limit: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above ``limit``.

    >>> round_below(3900), round_below(0.7)
    (2000.0, 0.5)
    """
    power = 10.0 ** np.floor(np.log10(limit))
    return float(max(step * power for step in (1, 2, 5) if step * power <= limit))


def _repeat_words(dice: pd.Series) -> str:
    """A text on the spread of the repeats; empty if there is only one."""
    apart = dice.groupby(["model", "inputs_given"]).agg(["size", "std"])
    count = int(apart["size"].max())
    if count == 1:
        return ""
    return (
        f" Points are means over {count} trainings with other seeds; ticks below a row are the "
        f"means of each training (standard deviation in Dice at most {apart['std'].max():.3f})."
    )
