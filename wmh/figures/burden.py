"""Figure 7: how much lesion in which region, and whether predictions agree with the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import SubFigure
from scipy.cluster import hierarchy

from wmh.analysis.agreement import bland_altman
from wmh.analysis.burden import TRUTH, paired_profiles, profiles
from wmh.analysis.clusters import join_subjects
from wmh.atlas.regions import LEFT_LABELS, REGIONS, RIGHT_LABELS
from wmh.figures import brain, parts, style
from wmh.figures.printed import with_interval
from wmh.study import Study

TICKS_ML = (1, 4, 10, 20, 40, 80)
GROUP_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILION, style.SKY)
SOURCES_WORDS = {
    "registered": "predicted lesions in {labels} regions",
    "separate": "lesions and regions of two separate models",
    "joint": "lesions and regions of the joint model",
}


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """Heat map of the true burden with dendrogram; mean burden on the brain; agreement."""
    burden, cohort = parts.read_table(study, "burden"), parts.read_table(study, "cohort_burden")
    groups = parts.read_table(study, "groups").set_index("subject")["group"]
    agreement = parts.read_table(study, "agreement")
    sources, labels = style.in_order(burden["source"], style.SOURCES), parts.labels_kind(study)
    names = parts.source_names(study)
    found = [source for source in sources if source != TRUTH]
    percent = {
        source: profiles(burden, source, "percent_of_region").mean()
        for source in sources
        if source in (TRUTH, "joint")
    }
    heights = (76, 36 * len(percent), *([50] if found else []))
    figure = style.new_figure(sum(heights), pad=0.02, space=0.01)
    top, middle, *bottom = figure.subfigures(len(heights), 1, height_ratios=heights)
    _draw_heat_map(top, cohort, groups)
    limits = (0.0, max(float(mean.max()) for mean in percent.values()))
    scale = brain.ColourScale(limits, "mean burden (% of region)")
    panels = brain.lay_out_maps(middle, {source: names[source] for source in percent}, scale)
    style.letter(panels[next(iter(percent))], "b")
    for part in bottom:
        totals = agreement[agreement["region"] == "all"].groupby("source")
        totals = totals[["icc", "icc_low", "icc_high"]].mean()  # over repeats
        pairs = {source: pair_with_truth(burden, source) for source in found}
        _draw_agreement(part, pairs, names, totals)
    maps = {source: brain.paint_regions(mean) for source, mean in percent.items()}
    brain.draw_maps(panels, maps, scale)
    everyone = len(profiles(cohort, TRUTH))
    several = (
        f"Coloured branches: the {groups.max()} groups with the largest mean silhouette."
        if groups.max() > 1
        else "No number of groups has a mean silhouette of 0.25 or more: all are one group."
    )
    caption = (
        "Regional lesion burden. (a) True burden, percent of each region that is lesion, one "
        f"column for each of the {everyone} training and test subjects, ordered "
        "by Ward's clustering of their regional profile (square roots of each region's share of "
        f"all lesion volume). {several} (b) Mean over test subjects on the atlas "
        "(axial cuts, heights z in mm; L: the subject's left). "
    )
    if found:
        shown = ", ".join(SOURCES_WORDS[source].format(labels=labels) for source in found)
        caption += (
            f"(c) Agreement of regional lesion volume with the truth for {shown}; one point per "
            "subject and region, square-root axes. Line, mean difference; dashed, limits of "
            "agreement (± 1.96 standard deviations; points of one subject are not independent). "
            "ICC(A,1) of the volume summed over the regions, with its "
            f"{100 * (1 - study.evaluation.alpha):g} % interval. "
        )
    caption += "Nothing is tested here. "
    if (repeats := burden["repeat"].nunique()) > 1:
        caption += f"Predicted volumes, and the ICCs, are means over {repeats} trainings. "
    return figure, caption + parts.cohort_words(study, burden["subject"])


def pair_with_truth(burden: pd.DataFrame, source: str) -> pd.DataFrame:
    """Lesion volume (ml) as ``true`` and as ``found`` by a source, by subject and region."""
    true, found = paired_profiles(burden, source)
    return pd.DataFrame({"true": true.stack(), "found": found.stack()})  # noqa: PD013


def branch_colours(linkage: np.ndarray, groups: np.ndarray) -> dict[int, str]:
    """The colour of each branch of a tree: its group's colour, or grey where groups join.

    ``groups`` holds the group, from 1, of each leaf. With one group all branches are grey.
    """
    inside = [{int(group)} for group in groups]
    for first, second in linkage[:, :2].astype(int):
        inside.append(inside[first] | inside[second])
    one = len(inside[-1]) == 1
    return {
        number: style.GREY if one or len(found) > 1 else GROUP_COLOURS[min(found) - 1]
        for number, found in enumerate(inside)
        if number >= len(groups)
    }


def _draw_heat_map(part: SubFigure, cohort: pd.DataFrame, groups: pd.Series) -> None:
    """Two blocks, left and right hemisphere, each below the same dendrogram of subjects.

    The tree joins the subjects that have lesions, by their profiles; all others are at its right.
    """
    panels = part.subplot_mosaic(
        [["tree left", "tree right", "."], ["left", "right", "bar"]],
        height_ratios=(1, 5),
        width_ratios=(10, 10, 0.25),
    )
    tree, table = (
        join_subjects(profiles(cohort, TRUTH)),
        profiles(cohort, TRUTH, "percent_of_region"),
    )
    without = [subject for subject in table.index if subject not in groups.index]
    table = table.loc[[*tree.order, *without]]
    colours = branch_colours(tree.linkage, groups.to_numpy())
    limits = (0.0, max(float(np.nanpercentile(table, 99)), 1e-3))
    scale = brain.ColourScale(limits, "burden (% of region)")
    for side, labels in (("left", LEFT_LABELS), ("right", RIGHT_LABELS)):
        above, axes = panels[f"tree {side}"], panels[side]
        hierarchy.dendrogram(
            tree.linkage, ax=above, no_labels=True, link_color_func=colours.__getitem__
        )
        above.set_xlim(0, 10 * len(table))  # a leaf is ten units wide
        above.axis("off")
        above.set_title(f"{side} hemisphere", loc="center")
        axes.imshow(
            table[list(labels)].T, aspect="auto", origin="upper", cmap=scale.colours,
            vmin=limits[0], vmax=limits[1],
        )  # fmt: skip
        axes.set(xticks=[], yticks=[], xlabel=f"{len(table)} subjects")
        axes.spines[:].set_visible(False)
    structures = [REGIONS[left - 1].structure for left in LEFT_LABELS]
    panels["left"].set_yticks(range(len(structures)), structures)
    panels["left"].tick_params("y", length=0)
    brain.draw_colour_bar(panels["bar"], scale)
    style.letter(panels["tree left"], "a")


def _draw_agreement(
    part: SubFigure, pairs: dict[str, pd.DataFrame], names: dict[str, str], totals: pd.DataFrame
) -> None:
    """Bland and Altman's plot for each source, on common axes, with the ICC of the totals."""
    panels = part.subplots(1, len(pairs), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (source, volumes) in zip(panels, pairs.items(), strict=True):
        apart, colour = volumes["found"] - volumes["true"], style.SOURCES[source].colour
        axes.scatter(volumes.mean(axis=1), apart, s=4, color=colour, alpha=0.45, linewidths=0)
        bias, low, high = bland_altman(volumes["true"].to_numpy(), volumes["found"].to_numpy())
        axes.axhline(0, color=style.GREY, lw=0.5)
        axes.axhline(bias, color=style.BLACK, lw=1)
        for limit in (low, high):
            axes.axhline(limit, color=style.BLACK, lw=0.8, ls=(0, (4, 3)))
        axes.set_title(names[source])
        numbers = f"{bias:+.2f} ml, limits {low:+.2f} to {high:+.2f}".replace("-", style.MINUS)
        icc = with_interval(*totals.loc[source])
        axes.set_xlabel(f"mean of both (ml)\n{numbers}\nICC of totals {icc}")
    everything = pd.concat(pairs)
    farthest = max(1.0, float((everything["found"] - everything["true"]).abs().max())) * 1.1
    panels[0].set_ylim(-farthest, farthest)
    panels[0].set_xlim(0, max(1.0, float(everything.mean(axis=1).max())) * 1.1)
    for axes in panels:
        parts.root_scale(axes, "x", TICKS_ML)
        parts.root_scale(axes, "y", TICKS_ML)
    panels[0].set_ylabel(f"found {style.MINUS} true (ml)")
    style.letter(panels[0], "c")
