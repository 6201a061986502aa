"""Figure 7: how much lesion in which region, and whether predictions agree with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from scipy.cluster import hierarchy

from wmh.analysis.agreement import bland_altman
from wmh.analysis.burden import TRUTH, paired_profiles, profiles
from wmh.analysis.clusters import Tree, join_subjects
from wmh.atlas.regions import LEFT_LABELS, REGIONS, RIGHT_LABELS
from wmh.figures.brain import (
    ColourScale,
    draw_colour_bar,
    draw_maps,
    lay_out_maps,
    paint_regions,
)
from wmh.figures.parts import cohort_words, labels_kind, read_table, root_scale, source_names
from wmh.figures.printed import with_interval
from wmh.figures.style import (
    BLACK,
    BLUE,
    DOUBLE_COLUMN,
    GREEN,
    GREY,
    MINUS,
    ORANGE,
    PURPLE,
    SKY,
    SOURCES,
    VERMILION,
    StyledFigure,
    in_order,
    letter,
    new_figure,
    styled,
)
from wmh.study import Study

COLOURS = "magma_r"
TICKS_ML = (1, 4, 10, 20, 40, 80)
GROUP_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
SOURCES_WORDS = {
    "registered": "predicted lesions in {labels} regions",
    "separate": "lesions and regions of two separate models",
    "joint": "both of the joint model",
}


@dataclass(frozen=True)
class Burden:
    """``everyone``: true percent of each region 1..34 that is lesion, by subject of the cohort.

    ``tree`` joins the subjects that have lesions by their profile, and ``groups`` has their group.
    By source: ``names`` as printed; ``percent``, the mean over test subjects by region; and for all
    but the truth ``pairs``, true and found lesion volume (ml), one row per test subject and region,
    and ``totals``, the agreement of the sum over all regions.
    """

    everyone: pd.DataFrame
    tree: Tree
    groups: pd.Series
    names: dict[str, str]
    percent: dict[str, pd.Series]
    pairs: dict[str, pd.DataFrame]
    totals: pd.DataFrame
    caption: str


def load_burden(study: Study) -> Burden:
    """Regional burden of the truth and of each prediction, subjects ordered by their profile."""
    burden, cohort = read_table(study, "burden"), read_table(study, "cohort_burden")
    groups = read_table(study, "groups").set_index("subject")["group"]
    agreement = read_table(study, "agreement")
    everyone = profiles(cohort, TRUTH, "percent_of_region")
    labels, sources = labels_kind(study), in_order(burden["source"], SOURCES)
    pairs = {source: pair_with_truth(burden, source) for source in sources if source != TRUTH}
    of_sums = agreement[agreement["region"] == "all"]
    several = (
        f"Coloured branches: the {groups.max()} groups with the largest mean silhouette."
        if groups.max() > 1
        else "No number of groups has a mean silhouette of 0.25 or more: all are one group."
    )
    caption = (
        "Regional lesion burden. (a) True burden, percent of each region that is lesion, one "
        f"column for each of the {len(everyone)} training and test subjects, ordered by Ward's "
        "clustering of their regional profile (square roots of each region's share of all lesion "
        f"volume). {several} (b) Mean over test subjects on the atlas "
        "(axial cuts, heights z in mm; L: the subject's left). "
    )
    if pairs:
        shown = ", ".join(SOURCES_WORDS[source].format(labels=labels) for source in pairs)
        caption += (
            f"(c) Agreement of regional lesion volume with the truth for {shown}; one point per "
            "subject and region, square-root axes: line, mean difference; dashed, limits of "
            "agreement (± 1.96 standard deviations; points of one subject are not independent). "
            "ICC(A,1) of the volume summed over the regions, with its "
            f"{100 * (1 - study.evaluation.alpha):g} % interval. "
        )
    caption += "Nothing is tested here. "
    if (repeats := burden["repeat"].nunique()) > 1:
        caption += f"Predicted volumes, and the ICCs, are means over {repeats} trainings. "
    return Burden(
        everyone=everyone,
        tree=join_subjects(profiles(cohort, TRUTH)),
        groups=groups,
        names=source_names(study),
        percent={name: profiles(burden, name, "percent_of_region").mean() for name in sources},
        pairs=pairs,
        totals=of_sums.groupby("source")[["icc", "icc_low", "icc_high"]].mean(),  # over repeats
        caption=caption + cohort_words(study, burden["subject"].nunique()),
    )


@styled
def plot_burden(data: Burden) -> StyledFigure:
    """Heat map with dendrogram; mean burden on the brain; agreement with the truth."""
    maps = [source for source in ("truth", "joint") if source in data.percent]
    heights = (76, 36 * len(maps), *([50] if data.pairs else []))
    figure = new_figure(DOUBLE_COLUMN, sum(heights))
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    top, middle, *bottom = figure.subfigures(len(heights), 1, height_ratios=heights)
    _draw_heat_map(top, data)
    limits = (0.0, max(float(data.percent[source].max()) for source in maps))
    scale = ColourScale(COLOURS, limits, "mean burden (% of region)")
    panels = lay_out_maps(middle, {source: data.names[source] for source in maps}, scale)
    letter(panels[maps[0]], "b")
    for part in bottom:
        _draw_agreement(part, data)
    draw_maps(panels, {source: paint_regions(data.percent[source]) for source in maps}, scale)
    return figure


def pair_with_truth(burden: pd.DataFrame, source: str) -> pd.DataFrame:
    """Lesion volume (ml) as ``true`` and as ``found`` by a source, by subject and region."""
    true, found = paired_profiles(burden, source)
    return pd.DataFrame({"true": true.stack(), "found": found.stack()})  # noqa: PD013


def branch_colours(linkage: np.ndarray, groups: np.ndarray) -> dict[int, str]:
    """A colour for each branch of a tree by its number: its group's, grey where groups join.

    ``groups`` holds the group, 1 upwards, of each leaf. All is grey where there is one group.
    """
    inside = [{int(group)} for group in groups]
    for first, second in linkage[:, :2].astype(int):
        inside.append(inside[first] | inside[second])
    one = len(inside[-1]) == 1
    return {
        number: GREY if one or len(found) > 1 else GROUP_COLOURS[min(found) - 1]
        for number, found in enumerate(inside)
        if number >= len(groups)
    }


def _draw_heat_map(part: SubFigure, data: Burden) -> None:
    """Two blocks, left and right hemisphere, each under the same dendrogram of subjects."""
    panels = part.subplot_mosaic(
        [["tree left", "tree right", "."], ["left", "right", "bar"]],
        height_ratios=(1, 5),
        width_ratios=(10, 10, 0.25),
    )
    without = [subject for subject in data.everyone.index if subject not in data.groups.index]
    table = data.everyone.loc[[*data.tree.order, *without]]
    colours = branch_colours(data.tree.linkage, data.groups.to_numpy())
    limits = (0.0, max(float(np.nanpercentile(table, 99)), 1e-3))
    for side, labels in (("left", LEFT_LABELS), ("right", RIGHT_LABELS)):
        tree, axes = panels[f"tree {side}"], panels[side]
        hierarchy.dendrogram(
            data.tree.linkage, ax=tree, no_labels=True, link_color_func=colours.__getitem__
        )
        tree.set_xlim(0, 10 * len(table))  # a leaf is ten units wide
        tree.axis("off")
        tree.set_title(f"{side} hemisphere", loc="center")
        axes.imshow(
            table[list(labels)].T, aspect="auto", origin="upper", cmap=COLOURS,
            vmin=limits[0], vmax=limits[1],
        )  # fmt: skip
        axes.set(xticks=[], yticks=[], xlabel=f"{len(table)} subjects")
        axes.spines[:].set_visible(False)
    structures = [REGIONS[left - 1].structure for left in LEFT_LABELS]
    panels["left"].set_yticks(range(len(structures)), structures)
    panels["left"].tick_params("y", length=0)
    draw_colour_bar(panels["bar"], ColourScale(COLOURS, limits, "burden (% of region)"))
    letter(panels["tree left"], "a")


def _draw_agreement(part: SubFigure, data: Burden) -> None:
    panels = part.subplots(1, len(data.pairs), sharey=True, sharex=True, squeeze=False)[0]
    for axes, source in zip(panels, data.pairs, strict=True):
        _draw_bland_altman(axes, data, source)
    everything = pd.concat(data.pairs)
    farthest = max(1.0, float((everything["found"] - everything["true"]).abs().max())) * 1.1
    panels[0].set_ylim(-farthest, farthest)
    panels[0].set_xlim(0, max(1.0, float(everything.mean(axis=1).max())) * 1.1)
    for axes in panels:
        root_scale(axes, "x", TICKS_ML)
        root_scale(axes, "y", TICKS_ML)
    panels[0].set_ylabel(f"found {MINUS} true (ml)")
    letter(panels[0], "c")


def _draw_bland_altman(axes: Axes, data: Burden, source: str) -> None:
    pairs, colour = data.pairs[source], SOURCES[source].colour
    apart = pairs["found"] - pairs["true"]
    axes.scatter(pairs.mean(axis=1), apart, s=4, color=colour, alpha=0.45, linewidths=0)
    bias, low, high = bland_altman(pairs["true"].to_numpy(), pairs["found"].to_numpy())
    axes.axhline(0, color=GREY, lw=0.5)
    axes.axhline(bias, color=BLACK, lw=1)
    for limit in (low, high):
        axes.axhline(limit, color=BLACK, lw=0.8, ls=(0, (4, 3)))
    axes.set_title(data.names[source])
    numbers = f"{bias:+.2f} ml, limits {low:+.2f} to {high:+.2f}".replace("-", MINUS)
    icc = with_interval(*data.totals.loc[source])
    axes.set_xlabel(f"mean of both (ml)\n{numbers}\nICC of totals {icc}")
