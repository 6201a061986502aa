"""Figure 2: what each configuration finds and misses, in the best, median and worst subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from wmh.figures.parts import (
    cohort_words,
    lesion_values,
    of_configuration,
    own_configurations,
    predicted,
    prediction,
    read_table,
)
from wmh.figures.printed import printed
from wmh.figures.slices import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    SIDES,
    TRUE_POSITIVE,
    draw_errors,
    draw_slice,
    fullest_slice,
    head_box,
    height_over_width,
)
from wmh.figures.style import (
    DOUBLE_COLUMN,
    StyledFigure,
    configuration_name,
    new_figure,
    scanner_name,
    styled,
)
from wmh.images import Image, load_image, load_labels, resample_to
from wmh.study import Study, StudyError


@dataclass(frozen=True)
class Case:
    """One subject's images, truth and predictions by configuration, with each one's Dice."""

    rank: str
    subject: str
    scanner: str
    lesion_ml: float
    flair: Image
    t1: Image
    truth: Image
    predictions: dict[str, Image]
    dice: dict[str, float]


@dataclass(frozen=True)
class Qualitative:
    """Three cases and the caption."""

    cases: list[Case]
    caption: str


def load_qualitative(study: Study) -> Qualitative:
    """The subjects with the best, median and worst Dice, averaged over the configurations."""
    values, cohort = lesion_values(study), read_table(study, "cohort").set_index("id")
    configurations = predicted(study, own_configurations(values), values["subject"].iloc[0])
    if not configurations:
        raise StudyError(f"{study.results / 'predictions'}: empty. Run notebook 05_evaluation")
    dice = pd.DataFrame({c: of_configuration(values, *c)["dice"] for c in configurations})
    chosen = best_median_worst(dice.mean(axis=1))
    if len(dice) == 1:
        chosen = {"Only": chosen["Best"]}
    elif len(dice) == 2:  # none is shown twice
        del chosen["Median"]
    cases = [_case(study, rank, cohort.loc[who], dice.loc[who]) for rank, who in chosen.items()]
    ranks = {3: "Best, median and worst", 2: "Best and worst", 1: "The only"}[len(cases)]
    caption = (
        f"{ranks} test subject by Dice averaged over the configurations; the axial slice with most "
        "lesion. Yellow: lesion found; red: false positive; blue: false negative; grey in the "
        "truth: other pathology, left out of every measure. Numbers: Dice of the whole "
        f"volume. {SIDES} Chosen from {cohort_words(study, len(dice))}"
    )
    return Qualitative(cases, caption)


@styled
def plot_qualitative(data: Qualitative) -> StyledFigure:
    """A row per subject: FLAIR, T1, truth, then each configuration's findings on the FLAIR."""
    names = list(data.cases[0].predictions)
    columns = ["FLAIR image", "T1 image", "Truth", *names]
    shapes = [height_over_width(case.flair) for case in data.cases]
    width_mm = 171 / len(columns)
    figure = new_figure(DOUBLE_COLUMN, sum(shapes) * width_mm + 12)
    figure.get_layout_engine().set(w_pad=0.008, h_pad=0.008, wspace=0, hspace=0)
    grid = figure.subplots(len(data.cases), len(columns), squeeze=False, height_ratios=shapes)
    for case, row in zip(data.cases, grid, strict=True):
        _draw_case(case, row)
    size = min(6.5, 48 / len(columns))  # "Interchangeable" is as wide as a column of nine
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name.replace(", ", ",\n"), fontsize=size, loc="center", pad=2)
    kinds = {
        "lesion found": TRUE_POSITIVE,
        "false positive": FALSE_POSITIVE,
        "false negative": FALSE_NEGATIVE,
    }
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in kinds.items()],
        loc="outside lower center",
        ncols=3,
        handlelength=0.8,
    )
    return figure


def best_median_worst(score: pd.Series) -> dict[str, str]:
    """The subjects with the highest, the (upper) median and the lowest score.

    >>> best_median_worst(pd.Series({"a": 0.2, "b": 0.9, "c": 0.5}))
    {'Best': 'b', 'Median': 'c', 'Worst': 'a'}
    """
    ranked = score.sort_values(ascending=False, kind="stable").index
    return {"Best": ranked[0], "Median": ranked[(len(ranked) - 1) // 2], "Worst": ranked[-1]}


def _case(study: Study, rank: str, subject: pd.Series, dice: pd.Series) -> Case:
    flair = load_image(subject["flair"])
    named = {configuration_name(*c): c for c in dice.index}
    truth = load_labels(subject["lesions"])
    return Case(
        rank=rank,
        subject=subject.name,
        scanner=subject["scanner"],
        lesion_ml=float(np.count_nonzero(truth.data == 1) * truth.voxel_ml),
        flair=flair,
        t1=resample_to(load_image(subject["t1"]), flair),
        truth=truth,
        predictions={
            name: prediction(study, *c, subject.name, "lesions") for name, c in named.items()
        },
        dice={name: float(dice[c]) for name, c in named.items()},
    )


def _draw_case(case: Case, row: np.ndarray) -> None:
    z, box = fullest_slice(case.truth), head_box(case.flair)
    for axes, image in zip(row, [case.flair, case.t1], strict=False):
        draw_slice(axes, image, z, box)
    for axes in row[2:]:
        draw_slice(axes, case.flair, z, box)
    draw_errors(row[2], case.truth, case.truth, z, box, other_pathology=True)
    for axes, (name, found) in zip(row[3:], case.predictions.items(), strict=True):
        draw_errors(axes, case.truth, found, z, box)
        _note(axes, printed(case.dice[name]))
    _note(row[2], f"{case.lesion_ml:.1f} ml")
    place = scanner_name(case.scanner)
    row[0].set_ylabel(f"{case.rank}: subject {case.subject}\n{place}", fontsize=6)


def _note(axes: Axes, text: str) -> None:
    style = {"color": "white", "fontsize": 5.5, "ha": "right", "va": "top"}
    words = axes.text(0.98, 0.985, text, transform=axes.transAxes, **style)
    words.set_path_effects([withStroke(linewidth=1.2, foreground="black")])
