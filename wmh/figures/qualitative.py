"""Figure 2: what each configuration finds and misses, in the best, median and worst subject."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from wmh.figures import parts, slices, style
from wmh.figures.printed import printed
from wmh.images import Image, load_image, load_labels, resample_to
from wmh.study import Study, StudyError


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """A row per subject: FLAIR, T1, truth, then each configuration's findings on the FLAIR.

    The subjects are those with the best, median and worst Dice, averaged over the configurations.
    """
    values, cohort = parts.lesion_values(study), parts.read_table(study, "cohort").set_index("id")
    configurations = parts.predicted_configurations(study, values, values["subject"].iloc[0])
    if not configurations:
        raise StudyError(f"{study.results / 'predictions'}: empty. Run notebook 05_evaluation")
    dice = pd.DataFrame({c: parts.of_configuration(values, *c)["dice"] for c in configurations})
    chosen = best_median_worst(dice.mean(axis=1))
    if len(dice) == 1:
        chosen = {"Only": chosen["Best"]}
    elif len(dice) == 2:  # with two subjects, show each once
        del chosen["Median"]
    names = [style.configuration_name(*c) for c in configurations]
    columns = ["FLAIR image", "T1 image", "Truth", *names]
    flairs = {rank: load_image(cohort.loc[subject, "flair"]) for rank, subject in chosen.items()}
    shapes = [slices.height_over_width(flair) for flair in flairs.values()]
    height_mm = sum(shapes) * 171 / len(columns) + 12
    figure = style.new_figure(height_mm, pad=0.008, space=0)
    grid = figure.subplots(len(chosen), len(columns), squeeze=False, height_ratios=shapes)
    for row, (rank, subject) in zip(grid, chosen.items(), strict=True):
        _draw_case(row, study, cohort.loc[subject], flairs[rank], dice.loc[subject])
        place = style.scanner_name(cohort.loc[subject, "scanner"])
        row[0].set_ylabel(f"{rank}: subject {subject}\n{place}", fontsize=6)
    size = min(6.5, 48 / len(columns))  # "Interchangeable" just fits into one of nine columns
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name.replace(", ", ",\n"), fontsize=size, loc="center", pad=2)
    kinds = {
        "lesion found": slices.TRUE_POSITIVE,
        "false positive": slices.FALSE_POSITIVE,
        "false negative": slices.FALSE_NEGATIVE,
    }
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in kinds.items()],
        loc="outside lower center",
        ncols=3,
        handlelength=0.8,
    )
    ranks = {3: "Best, median and worst", 2: "Best and worst", 1: "The only"}[len(chosen)]
    return figure, (
        f"{ranks} test subject by Dice averaged over the configurations; the axial slice with most "
        "lesion. Yellow: lesion found; red: false positive; blue: false negative; grey in the "
        "truth: other pathology, left out of every measure. Numbers: Dice of the whole "
        f"volume. {slices.SIDES} {parts.first_training_words(study)}{parts.means_words(study)}"
        f"Chosen from {parts.cohort_words(study, dice.index)}"
    )


def best_median_worst(score: pd.Series) -> dict[str, str]:
    """The subjects with the highest, the (upper) median and the lowest score.

    >>> best_median_worst(pd.Series({"a": 0.2, "b": 0.9, "c": 0.5}))
    {'Best': 'b', 'Median': 'c', 'Worst': 'a'}
    """
    ranked = score.sort_values(ascending=False, kind="stable").index
    return {"Best": ranked[0], "Median": ranked[(len(ranked) - 1) // 2], "Worst": ranked[-1]}


def _draw_case(
    row: np.ndarray, study: Study, subject: pd.Series, flair: Image, dice: pd.Series
) -> None:
    """One subject, a row of the cohort table; ``dice`` by configuration."""
    truth, t1 = load_labels(subject["lesions"]), resample_to(load_image(subject["t1"]), flair)
    z, box = slices.fullest_slice(truth), slices.head_box(flair)
    for axes, image in zip(row, [flair, t1] + [flair] * (len(row) - 2), strict=True):
        slices.draw_slice(axes, image, z, box)
    slices.draw_errors(row[2], truth, truth, z, box, other_pathology=True)
    lesion_ml = np.count_nonzero(truth.data == 1) * truth.voxel_ml
    notes = [f"{lesion_ml:.1f} ml"]
    for axes, configuration in zip(row[3:], dice.index, strict=True):
        found = load_labels(study.prediction(*configuration, subject.name, "lesions"))
        slices.draw_errors(axes, truth, found, z, box)
        notes.append(printed(dice[configuration]))
    for axes, note in zip(row[2:], notes, strict=True):
        place = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        words = axes.text(0.98, 0.985, note, color="white", fontsize=5.5, **place)
        words.set_path_effects([withStroke(linewidth=1.2, foreground="black")])
