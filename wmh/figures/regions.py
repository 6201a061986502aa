"""Figure 6: regions as registered and as predicted, and the Dice of each region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.atlas.regions import REGION_LABELS, built_in_atlas, mni_t1
from wmh.figures.brain import RESOLUTION_MM, ColourScale, draw_maps, lay_out_maps, paint_regions
from wmh.figures.parts import (
    cohort_words,
    draw_points,
    labels_kind,
    own_configurations,
    prediction,
    read_table,
)
from wmh.figures.qualitative import best_median_worst
from wmh.figures.slices import SIDES, draw_labels, draw_slice, head_box
from wmh.figures.style import (
    DOUBLE_COLUMN,
    SOURCES,
    Look,
    StyledFigure,
    letter,
    look_of,
    new_figure,
    styled,
)
from wmh.images import Image, load_image, load_labels, to_ras
from wmh.study import Study

SLICE_SHARES = (0.42, 0.66)
"""Heights of the two slices shown, as shares of the regions' extent from foot to head."""
COLOURS = "viridis"


@dataclass(frozen=True)
class Regions:
    """One subject's region images, and Dice by region and by subject."""

    background: dict[str, Image]
    labels: dict[str, Image]
    by_region: dict[str, pd.Series]
    by_subject: dict[str, tuple[Look, pd.Series]]
    caption: str


def load_regions(study: Study) -> Regions:
    """Region labels of the subject with the median mean Dice, and the Dice of all regions."""
    metrics, fits = read_table(study, "metrics"), read_table(study, "regions").set_index("id")
    dice = metrics[metrics["metric"] == "dice"]
    given = dict(own_configurations(dice[dice["structure"] == "regions_mean"]))
    dice = dice[dice["inputs_given"] == dice["model"].map(given)]
    means, models = dice[dice["structure"] == "regions_mean"], list(given)
    by_subject = {
        m: means[means["model"] == m].groupby("subject")["value"].mean(skipna=False) for m in models
    }
    subject = best_median_worst(by_subject[models[0]])["Median"]
    row = read_table(study, "cohort").set_index("id").loc[subject]
    flair = load_image(row["flair"])
    labels = {"Atlas (MNI152)": built_in_atlas(RESOLUTION_MM)}
    if pd.notna(row.get("true_regions")):
        labels["True regions"] = load_labels(row["true_regions"])
    if (kind := labels_kind(study)) != "true":
        labels[kind.capitalize()] = load_labels(study.region_labels(subject))
    for model in models:
        if study.prediction(model, given[model], subject, "regions").is_file():
            found = prediction(study, model, given[model], subject, "regions")
            labels[f"{look_of(model).name} model"] = found
    points = {look_of(model).name: (look_of(model), by_subject[model]) for model in models}
    known = fits["mean_region_dice"].dropna() if kind == "registered" else ()
    if len(known):
        points = {"Registered": (SOURCES["registered"], known), **points}
    registered = (
        f"; for the registered labels the Dice with the true regions, n = {len(known)} training "
        "and test subjects"
        if len(known)
        else ""
    )
    caption = (
        "White-matter regions. (a) The atlas in MNI152 space, and the regions of the subject with "
        f"the median mean Dice ({subject}), two axial slices; left and right of a structure share "
        f"a hue. {SIDES} (b) Dice of each region between model and {kind} labels, "
        "mean over subjects, on the atlas (axial cuts, heights z in mm). (c) Mean over the 34 "
        f"regions, one point per subject, bars are means{registered}. Nothing is tested here. "
        f"{cohort_words(study, len(by_subject[models[0]]))}"
    )
    return Regions(
        background={name: mni_t1(RESOLUTION_MM) if "MNI" in name else flair for name in labels},
        labels=labels,
        by_region={look_of(m).name: _mean_by_region(dice[dice["model"] == m]) for m in models},
        by_subject=points,
        caption=caption,
    )


@styled
def plot_regions(data: Regions) -> StyledFigure:
    """Slices of all region images; Dice by region on the brain; mean Dice by subject."""
    slices_mm, maps_mm = 410 / len(data.labels) + 8, 37 * len(data.by_region)
    figure = new_figure(DOUBLE_COLUMN, slices_mm + maps_mm)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    above, below = figure.subfigures(2, 1, height_ratios=(slices_mm, maps_mm))
    grid = above.subplots(len(SLICE_SHARES), len(data.labels), squeeze=False)
    for column, (name, labels) in zip(grid.T, data.labels.items(), strict=True):
        column[0].set_title(name, loc="center")
        for axes, share in zip(column, SLICE_SHARES, strict=True):
            _draw_regions(axes, data.background[name], labels, share)
    lowest = min(float(dice.min()) for dice in data.by_region.values())
    limits = (min(0.9, np.floor(10 * lowest) / 10), 1.0)
    scale = ColourScale(COLOURS, limits, "mean Dice")
    titles = {name: f"{name} model" for name in data.by_region}
    panels = lay_out_maps(below, titles, scale, (10, 0.15, 2), ["points"])
    _draw_subject_means(panels["points"], data)
    letter(grid[0, 0], "a")
    letter(panels[next(iter(titles))], "b")
    letter(panels["points"], "c")
    maps = {name: paint_regions(dice) for name, dice in data.by_region.items()}
    draw_maps(panels, maps, scale)
    return figure


def _mean_by_region(dice: pd.DataFrame) -> pd.Series:
    """Mean Dice over subjects by region label, 1 to 34."""
    regions = dice[dice["structure"].str.match(r"region_\d+$")]
    labels = regions["structure"].str.removeprefix("region_").astype(int)
    means = regions.groupby(labels)["value"].mean()
    return means[means.index.isin(REGION_LABELS)]


def _draw_regions(axes: Axes, background: Image, labels: Image, share: float) -> None:
    filled = np.isin(to_ras(labels).data, REGION_LABELS).any((0, 1))
    filled = np.flatnonzero(filled if filled.any() else ~filled)  # a network may find no region
    z = round(filled[0] + share * (filled[-1] - filled[0]))
    box = head_box(background)
    draw_slice(axes, background, z, box)
    draw_labels(axes, labels, z, box)
    axes.set_anchor("N")


def _draw_subject_means(axes: Axes, data: Regions) -> None:
    for at, (look, values) in enumerate(data.by_subject.values()):
        draw_points(axes, values.to_numpy(), at, look, upright=True)
    axes.set_xticks(range(len(data.by_subject)), list(data.by_subject), rotation=30, ha="right")
    axes.tick_params("x", length=0)
    axes.set(ylim=(0, 1.0), xlim=(-0.6, len(data.by_subject) - 0.4))
    axes.set_ylabel("Dice, mean over regions")
