"""Figure 6: regions as registered and as predicted, and the Dice of each region."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wmh.atlas.regions import REGION_LABELS, built_in_atlas, mni_t1
from wmh.figures import brain, parts, slices, style
from wmh.figures.qualitative import best_median_worst
from wmh.images import Image, load_image, load_labels, to_ras
from wmh.study import Study

SLICE_SHARES = (0.42, 0.66)
"""Heights of the two slices shown, as shares of the regions' extent from foot to head."""


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """Slices of all region images; Dice by region on the brain; mean Dice by subject.

    The slices are of the subject with the median mean Dice.
    """
    metrics, kind = parts.read_table(study, "metrics"), parts.labels_kind(study)
    dice = metrics[metrics["metric"] == "dice"]
    given = dict(parts.own_configurations(dice[dice["structure"] == "regions_mean"]))
    dice = dice[dice["inputs_given"] == dice["model"].map(given)]
    by_region, by_subject = {}, {}
    for model in given:
        own, name = dice[dice["model"] == model], style.look_of(model).name
        means = own[own["structure"] == "regions_mean"].groupby("subject")["value"]
        by_subject[name] = (style.look_of(model), means.mean(skipna=False))
        by_region[name] = _mean_by_region(own)
    _, first = next(iter(by_subject.values()))
    subject = best_median_worst(first)["Median"]
    flair, labels = _images(study, subject, given)
    fits = parts.read_table(study, "regions")["mean_region_dice"].dropna()
    registered = ""
    if kind == "registered" and len(fits):
        by_subject = {"Registered": (style.SOURCES["registered"], fits), **by_subject}
        registered = (
            f"; for the registered labels the Dice with the true regions, n = {len(fits)} training "
            "and test subjects"
        )
    slices_mm, maps_mm = 410 / len(labels) + 8, 37 * len(by_region)
    figure = style.new_figure(slices_mm + maps_mm, pad=0.02, space=0.01)
    above, below = figure.subfigures(2, 1, height_ratios=(slices_mm, maps_mm))
    grid = above.subplots(len(SLICE_SHARES), len(labels), squeeze=False)
    atlas, own, *_ = labels.values()
    for column, (name, image) in zip(grid.T, labels.items(), strict=True):
        column[0].set_title(name, loc="center")
        background = mni_t1(brain.RESOLUTION_MM) if image is atlas else flair
        heights = _heights(atlas if image is atlas else own)  # the same slices of the subject
        for axes, z in zip(column, heights, strict=True):
            box = slices.head_box(background)
            slices.draw_slice(axes, background, z, box)
            slices.draw_labels(axes, image, z, box)
            axes.set_anchor("N")
    lowest = min(float(dice.min()) for dice in by_region.values())
    limits = (min(0.9, np.floor(10 * lowest) / 10), 1.0)
    scale = brain.ColourScale(limits, "mean Dice", "viridis")
    titles = {name: f"{name} model" for name in by_region}
    panels = brain.lay_out_maps(below, titles, scale, (10, 0.15, 2), ["points"])
    points = panels["points"]
    for at, (look, values) in enumerate(by_subject.values()):
        parts.draw_points(points, values, at, look, upright=True)
    points.set_xticks(range(len(by_subject)), list(by_subject), rotation=30, ha="right")
    points.tick_params("x", length=0)
    points.set(ylim=(0, 1.0), xlim=(-0.6, len(by_subject) - 0.4))
    points.set_ylabel("Dice, mean over regions")
    style.letter(grid[0, 0], "a")
    style.letter(panels[next(iter(titles))], "b")
    style.letter(points, "c")
    maps = {name: brain.paint_regions(dice) for name, dice in by_region.items()}
    brain.draw_maps(panels, maps, scale)
    return figure, (
        "White-matter regions. (a) The built-in atlas in MNI152 space, and the regions of the "
        f"subject with the median mean Dice of the {next(iter(by_region))} model ({subject}), two "
        "axial slices; left and right of a structure share a hue. "
        f"{slices.SIDES} {parts.first_training_words(study)}"
        f"(b) Dice of each region between model and {kind} labels, mean over subjects, on the "
        "atlas (axial cuts, heights z in mm). (c) Mean over the 34 "
        f"regions, one point per subject, bars are means{registered}. Nothing is tested here. "
        f"{parts.means_words(study)}{parts.cohort_words(study, first.index)}"
    )


def _images(study: Study, subject: str, given: dict[str, str]) -> tuple[Image, dict[str, Image]]:
    """A subject's FLAIR and, by title, region labels: the atlas's, its own and the predicted ones.

    ``given`` are the models, each with the images that it was given.
    """
    row = parts.read_table(study, "cohort").set_index("id").loc[subject]
    labels = {"Atlas (MNI152)": built_in_atlas(brain.RESOLUTION_MM)}
    if pd.notna(row.get("true_regions")):
        labels["True regions"] = load_labels(row["true_regions"])
    if (kind := parts.labels_kind(study)) != "true":
        labels[kind.capitalize()] = load_labels(study.region_labels(subject))
    for model, images in given.items():
        path = study.prediction(model, images, subject, "regions")
        if path.is_file():
            labels[f"{style.look_of(model).name} model"] = load_labels(path)
    return load_image(row["flair"]), labels


def _mean_by_region(dice: pd.DataFrame) -> pd.Series:
    """Mean Dice over subjects by region label, 1 to 34."""
    regions = dice[dice["structure"].str.match(r"region_\d+$")]
    labels = regions["structure"].str.removeprefix("region_").astype(int)
    means = regions.groupby(labels)["value"].mean()
    return means[means.index.isin(REGION_LABELS)]


def _heights(labels: Image) -> list[int]:
    """The slices at the wanted shares of the regions' height."""
    filled = np.isin(to_ras(labels).data, REGION_LABELS).any((0, 1))
    filled = np.flatnonzero(filled if filled.any() else ~filled)  # who has no known regions
    return [round(filled[0] + share * (filled[-1] - filled[0])) for share in SLICE_SHARES]
