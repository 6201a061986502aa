"""Figure 5: each configuration on each scanner, with and without training subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.figures import parts, style
from wmh.study import Study

SHOWN = ("dice", "hd95_mm", "lesion_f1")


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """A row per measure: points by scanner, and the means over seen and unseen scanners.

    A scanner is "seen" if it has subjects in the training split.
    """
    values, cohort = parts.lesion_values(study), parts.read_table(study, "cohort")
    configurations = parts.own_configurations(values)
    trained_on = set(cohort.loc[cohort["split"] == "training", "scanner"])
    scanners = style.in_order(values["scanner"], style.SCANNERS)
    seen = [s for s in scanners if s in trained_on]
    groups = {"seen": seen, "unseen": [s for s in scanners if s not in seen]}
    figure = style.new_figure(45 * len(SHOWN) + 14)
    grid = figure.subplots(len(SHOWN), 2, width_ratios=(5, 1), sharey="row", sharex="col")
    for metric, name, (left, right) in zip(SHOWN, "abc", grid, strict=True):
        _draw_by_scanner(left, values, configurations, groups, metric)
        for model, given in configurations:
            chosen = parts.of_configuration(values, model, given)
            means = [chosen.loc[chosen["scanner"].isin(g), metric].mean() for g in groups.values()]
            known = [(at, mean) for at, mean in enumerate(means) if not np.isnan(mean)]
            look = style.look_of(model)
            right.plot(*zip(*known, strict=True), color=look.colour, marker=look.marker, ms=3.5)
        shown = [(at, name) for at, (name, group) in enumerate(groups.items()) if group]
        right.set_xticks(*zip(*shown, strict=True))
        right.set_xlim(-0.3, 1.3)
        measure = style.MEASURES[metric]
        left.set_ylabel(measure.label)
        left.set_ylim((-0.03, 1.03) if measure.higher_is_better else (0, None))
        style.letter(left, name)
    looks = {style.configuration_name(*c): style.look_of(c[0]) for c in configurations}
    parts.draw_legend(figure, looks)
    counts = values.drop_duplicates("subject")["scanner"].isin(seen)
    if groups["unseen"]:
        order = "scanners with training subjects, then scanners the models never saw"
        means = (
            f"the {counts.sum()} subjects of seen and the {(~counts).sum()} of unseen scanners. Of "
            "these differences, only those in Dice of the four input configurations are tested "
            "(notebook 6)"
        )
    else:
        order, means = "all have training subjects", f"all {counts.sum()} subjects"
    return figure, (
        f"Each configuration by scanner: {order}. Left: one point per subject, bars are means. "
        f"Right: means over {means}. {parts.means_words(study)}"
        f"{parts.cohort_words(study, values['subject'])}"
    )


def _draw_by_scanner(
    axes: Axes,
    values: pd.DataFrame,
    configurations: list[parts.Configuration],
    groups: dict[str, list[str]],
    metric: str,
) -> None:
    """The points of each configuration, scanner by scanner, with a line between seen and unseen."""
    step = len(configurations) + 1.5
    ticks = []
    for place, scanner in enumerate(groups["seen"] + groups["unseen"]):
        there = values[values["scanner"] == scanner]
        for at, (model, given) in enumerate(configurations):
            scores = parts.of_configuration(there, model, given)[metric]
            parts.draw_points(axes, scores, place * step + at, style.look_of(model), upright=True)
        name = f"{style.scanner_name(scanner)}\nn = {there['subject'].nunique()}"
        ticks.append((place * step + (step - 2.5) / 2, name))
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.tick_params("x", length=0)
    if all(groups.values()):
        border = len(groups["seen"]) * step - 1.25
        axes.axvline(border, color=style.GREY, lw=0.8, ls=(0, (4, 3)))
        for text, shift, side in (("← seen", -4, "right"), ("unseen →", 4, "left")):
            place = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
            words = {"ha": side, "va": "top", "color": style.GREY, "fontsize": 6}
            axes.annotate(text, (border, 1), (shift, -1), **place, **words)
