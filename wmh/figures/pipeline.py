"""Figure 1: from two images to a burden in every region, and the subjects this is learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import NullFormatter

from wmh.atlas.regions import ALL_LABELS, LEFT_LABELS, REGION_LABELS, REGIONS, mirror_labels
from wmh.figures import parts, slices, style
from wmh.images import Image, load_image, load_labels, resample_to
from wmh.learning.inputs import GIVEN_TITLES
from wmh.study import Study, StudyError

SPLITS = {
    "training": style.Look("training", style.BLACK, "o"),
    "test": style.Look("test", "#a0a0a0", "s"),
}

LEARNED = {
    "registered": ("Atlas, registered", "the atlas registered to it"),
    "true": ("Regions, true", "its true regions"),
    "published": ("Regions, published", "its published regions"),
}
"""The labels that the region models learn: a title, and words for the caption."""

ARROWS = (
    ("t1", "models"),
    ("flair", "models"),
    ("learn", "models"),
    ("models", "lesions"),
    ("models", "regions"),
    ("regions", "burden"),
)
"""From panel to panel."""

BARS = 9
"""Structures with most lesion that the burden panel shows."""


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """Above, one test subject from images to burden; below, the cohort.

    The subject is the one with the median lesion volume.
    """
    cohort = parts.read_table(study, "cohort")
    test = cohort[cohort["split"] == "test"].sort_values(["lesion_ml", "id"])
    row = test.iloc[(len(test) - 1) // 2]
    flair = load_image(row["flair"])
    heights = (68 * slices.height_over_width(flair) + 14, 46)
    figure = style.new_figure(sum(heights))
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    words = _draw_path(figure, above, study, row, flair)
    left, right = below.subplots(1, 2, sharey=True)
    scanners = style.in_order(cohort["scanner"], style.SCANNERS)
    _draw_counts(left, cohort, scanners)
    _draw_volumes(right, cohort, scanners)
    style.letter(left, "b")
    style.letter(right, "c")
    counts = cohort["split"].value_counts()
    further = " and further people" if study.cohort.further else ""
    empty = "; those without lesion at the left edge" if (cohort["lesion_ml"] == 0).any() else ""
    return figure, (
        "From images to burden. (a) FLAIR and T1 of test subject "
        f"{row['id']} ({row['lesion_ml']:.1f} ml of lesion, the median of the test split; truth "
        f"outlined); {words}; lesion volume by region from the two. "
        f"{slices.SIDES} {parts.first_training_words(study)}"
        f"(b) Subjects by scanner; {unseen_words(cohort)} "
        f"(c) True lesion volume, one point per subject{empty}. "
        f"{parts.cohort_kind(study).capitalize()} cohort{further}, study {study.name!r}: "
        f"n = {counts.get('training', 0)} training and {counts.get('test', 0)} test subjects."
    )


def _draw_path(
    figure: Figure, part: SubFigure, study: Study, subject: pd.Series, flair: Image
) -> str:
    """Panels of one subject (a row of the cohort table): images, labels, models, results, burden.

    Lesions and regions are predicted if a model of the study predicts them; the returned words say
    whether they are.
    """
    panels = part.subplot_mosaic(
        [["flair", "learn", "lesions", "burden"], ["t1", "models", "regions", "burden"]],
        width_ratios=(1, 1, 1, 1.15),
        gridspec_kw={"wspace": 0.1},
    )
    t1, labels = resample_to(load_image(subject["t1"]), flair), load_labels(subject["lesions"])
    truth = Image((labels.data == 1).astype(np.uint8), labels.affine)
    learned, kind = load_labels(study.region_labels(subject["id"])), parts.labels_kind(study)
    lesions, lesion_model = _predicted(study, subject["id"], "lesions") or (truth, None)
    regions, region_model = _predicted(study, subject["id"], "regions") or (learned, None)
    z, box = slices.fullest_slice(truth), slices.head_box(flair)
    backgrounds = {"flair": flair, "t1": t1, "learn": t1, "lesions": flair, "regions": flair}
    for name, image in backgrounds.items():
        slices.draw_slice(panels[name], image, z, box)
    slices.draw_outline(panels["flair"], truth, z, style.VERMILION, box)
    slices.draw_labels(panels["learn"], learned, z, box)
    slices.draw_outline(panels["lesions"], lesions, z, style.VERMILION, box)
    slices.draw_labels(panels["regions"], regions, z, box)
    slices.draw_outline(panels["regions"], lesions, z, "white", box)
    panels["models"].set_box_aspect(slices.height_over_width(flair))
    _draw_models(panels["models"], style.in_order(study.models, style.MODELS))
    _draw_burden(panels["burden"], lesion_ml_by_region(lesions, regions))
    title, words = LEARNED[kind]
    titles = {
        "flair": "FLAIR",
        "t1": "T1",
        "learn": title,
        "models": "Models",
        "lesions": f"Lesions, {'predicted' if lesion_model else 'true'}",
        "regions": f"Regions, {'predicted' if region_model else kind}",
        "burden": "Burden (ml of lesion)",
    }
    for name, text in titles.items():
        panels[name].set_title(text)
    style.letter(panels["flair"], "a")
    for start, end in ARROWS:
        _draw_arrow(figure, panels[start], panels[end])
    return (
        f"{words}, whose labels the region models learn; "
        f"lesions ({lesion_model or 'the true ones'}) and "
        f"regions ({region_model or f'the {kind} ones'})"
    )


def lesion_ml_by_region(lesions: Image, regions: Image) -> pd.Series:
    """Lesion volume (ml) in each of the regions 1 to 34."""
    counts = np.bincount(regions.data[lesions.data == 1], minlength=len(ALL_LABELS))
    return pd.Series(counts * lesions.voxel_ml)[list(REGION_LABELS)]


def unseen_words(cohort: pd.DataFrame) -> str:
    """The end of a sentence: the number of scanners with test but no training subjects."""
    scanners = {split: set(part["scanner"]) for split, part in cohort.groupby("split")}
    unseen = len(scanners.get("test", set()) - scanners.get("training", set()))
    of = f"{unseen or 'none'} of {cohort['scanner'].nunique()} scanners"
    return f"{of} occur in the test split only."


def _predicted(study: Study, subject: str, kind: str) -> tuple[Image, str] | None:
    """A prediction by the joint model, or else the first other one, from the most images; its name.

    None if no model of the study predicts this. Raises :class:`StudyError` if a model does, but its
    prediction is not there yet.
    """
    models = study.models_of(kind, "multitask")
    for model in style.in_order(models, ("multitask", "flair_t1", *models)):
        for given in GIVEN_TITLES:
            path = study.prediction(model, given, subject, kind)
            if path.is_file():
                return load_labels(path), f"{style.look_of(model).name.lower()} model"
    if models:
        raise StudyError(f"{study.results / 'predictions'}: empty. Run notebook 05_evaluation")
    return None


def _draw_models(axes: Axes, models: list[str]) -> None:
    """A line per model: its marker and its name."""
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(len(models) - 0.2, -1.2))
    for at, model in enumerate(models):
        look = style.look_of(model)
        axes.plot(0.16, at, look.marker, color=look.colour, ms=5)
        axes.text(0.27, at, look.name, va="center")


def _draw_burden(axes: Axes, lesion_ml: pd.Series) -> None:
    """Left and right volumes of the structures with most lesion."""
    right = mirror_labels()
    both = {left: lesion_ml[left] + lesion_ml[right[left]] for left in LEFT_LABELS}
    shown = sorted((label for label in both if both[label]), key=both.get, reverse=True)[:BARS]
    colours = slices.region_colours()
    for at, label in enumerate(shown):
        for side, shift in ((label, 0.0), (right[label], 0.26)):
            axes.barh(at + shift, lesion_ml[side], 0.24, color=colours(side))
        axes.text(0, at - 0.16, f" {REGIONS[label - 1].structure}", va="bottom", fontsize=5.5)
    if not shown:
        axes.text(0.5, 0.5, "no lesion in any region", transform=axes.transAxes, ha="center")
    axes.set(yticks=[], ylim=(BARS - 0.5, -0.6), xlim=(0, max(0.1, 1.05 * lesion_ml.max())))
    axes.set_xlabel("light: left, dark: right")


def _draw_arrow(figure: Figure, start: Axes, end: Axes) -> None:
    """An arrow from one panel to another, to the right or straight down."""
    down = start.get_subplotspec().colspan.start == end.get_subplotspec().colspan.start
    tail, head = ((0.5, -0.02), (0.5, 1.1)) if down else ((1.02, 0.5), (-0.03, 0.5))
    look = {"arrowstyle": "-|>", "color": style.GREY, "lw": 0.9, "mutation_scale": 7}
    figure.add_artist(ConnectionPatch(tail, head, start.transAxes, end.transAxes, **look))


def _draw_counts(axes: Axes, cohort: pd.DataFrame, scanners: list[str]) -> None:
    for shift, (split, look) in zip((-0.2, 0.2), SPLITS.items(), strict=True):
        counts = cohort.loc[cohort["split"] == split, "scanner"].value_counts()
        lengths = counts.reindex(scanners, fill_value=0)
        places = np.arange(len(scanners)) + shift
        bars = axes.barh(places, lengths, 0.38, color=look.colour, label=look.name)
        axes.bar_label(bars, fontsize=6, padding=1)
    names = [style.scanner_name(scanner).replace("\n", ", ") for scanner in scanners]
    axes.set_yticks(range(len(scanners)), names)
    axes.set_ylim(len(scanners) - 0.5, -0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("subjects")


def _draw_volumes(axes: Axes, cohort: pd.DataFrame, scanners: list[str]) -> None:
    some = cohort.loc[cohort["lesion_ml"] > 0, "lesion_ml"]
    left = min(0.9, 0.8 * some.min())  # with 1 and 10 ml to read by
    for at, scanner in enumerate(scanners):
        for shift, (split, look) in zip((-0.2, 0.2), SPLITS.items(), strict=True):
            chosen = (cohort["scanner"] == scanner) & (cohort["split"] == split)
            volumes = np.sort(cohort.loc[chosen, "lesion_ml"].clip(lower=left))
            places = at + shift + 0.3 * parts.spread(len(volumes))
            shape = {"s": 9, "color": look.colour, "marker": look.marker, "linewidths": 0}
            label = look.name if at == 0 else None
            axes.scatter(volumes, places, label=label, clip_on=False, **shape)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(left, max(11, 1.25 * cohort["lesion_ml"].max()))
    axes.set_xlabel("lesion volume (ml)")
    axes.legend(bbox_to_anchor=(1, 1), loc="lower right", ncols=2, borderpad=0)
