"""Parts that several figures share: reading the tables, drawing points and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import scipy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wmh.cohorts.cohort import PATHS, person_of
from wmh.figures import style
from wmh.figures.printed import p_text
from wmh.learning.inputs import GIVEN_TITLES
from wmh.study import Study, made, project_root

KEYS = ["subject", "scanner", "model", "inputs_given"]

Configuration = tuple[str, str]
"""A model and the images it is given."""


def read_table(study: Study, name: str) -> pd.DataFrame:
    """Read ``results/STUDY/NAME.csv``; raises :class:`StudyError` if it is missing.

    Ids stay text. Paths in the cohort table become absolute, so that they work in any folder.
    """
    table = pd.read_csv(made(study.table(name)), dtype={"id": str, "subject": str})
    for column in table.columns.intersection(PATHS) if name == "cohort" else ():
        table[column] = table[column].map(project_root().joinpath, na_action="ignore")
    return table


def lesion_values(study: Study) -> pd.DataFrame:
    """The lesion measures: one row per subject and configuration, one column per measure.

    Values are means over the repeats of the study, and NaN if any repeat has no value.
    """
    by_repeat = lesion_values_by_repeat(study).drop(columns="repeat")
    return by_repeat.groupby(KEYS, sort=False).mean(skipna=False).reset_index()


def lesion_values_by_repeat(study: Study) -> pd.DataFrame:
    """The same with one row per subject, configuration and repeat."""
    metrics = read_table(study, "metrics")
    lesions = metrics[metrics["structure"] == "lesions"]
    # pivot instead of pivot_table, so that a duplicate value is an error and not averaged
    wide = lesions.pivot(index=[*KEYS, "repeat"], columns="metric", values="value")  # noqa: PD010
    return wide.reset_index().rename_axis(columns=None)


def own_configurations(values: pd.DataFrame) -> list[Configuration]:
    """Each model of a table with the most images it was given, in the usual order of models."""
    given = values.groupby("model")["inputs_given"].unique()
    return [
        (m, style.in_order(given[m], GIVEN_TITLES)[0])
        for m in style.in_order(values["model"], style.MODELS)
    ]


def predicted_configurations(
    study: Study, values: pd.DataFrame, subject: str
) -> list[Configuration]:
    """The configurations whose lesion prediction of a subject is stored."""
    every = own_configurations(values)
    return [c for c in every if study.prediction(*c, subject, "lesions").is_file()]


def of_configuration(values: pd.DataFrame, model: str, given: str) -> pd.DataFrame:
    """The rows of one model given a set of images, indexed and sorted by subject."""
    chosen = values[(values["model"] == model) & (values["inputs_given"] == given)]
    return chosen.set_index("subject").sort_index()


def tested_pairs(
    comparisons: pd.DataFrame, configurations: list[Configuration], metrics: Iterable[str]
) -> pd.DataFrame:
    """The comparisons of lesion measures whose two sides are both among ``configurations``."""
    first, second = (
        comparisons.set_index([f"model_{side}", f"inputs_{side}"]).index.isin(configurations)
        for side in "ab"
    )
    about_lesions = (comparisons["structure"] == "lesions") & comparisons["metric"].isin(metrics)
    return comparisons[first & second & about_lesions.to_numpy()]


def spread(count: int) -> np.ndarray:
    """Offsets in (-0.5, 0.5) that keep neighbouring points apart: van der Corput's sequence.

    >>> spread(4)
    array([ 0.   , -0.25 ,  0.25 , -0.375])
    """
    return scipy.stats.qmc.Halton(d=1, scramble=False).random(count + 1)[1:, 0] - 0.5


def draw_points(axes: Axes, values: np.ndarray, at: float, look: style.Look, upright: bool) -> None:
    """One point per subject and a bar at the mean, around position ``at``; NaN are left out.

    ``upright``: values run up the vertical axis; otherwise along the horizontal one.
    """
    values = np.sort(np.asarray(values, dtype=float)[~np.isnan(values)])
    if values.size == 0:
        return
    places = at + 0.5 * spread(values.size)
    points = (places, values) if upright else (values, places)
    shape = {"s": 7, "marker": look.marker, "linewidths": 0}
    axes.scatter(*points, color=look.colour, alpha=0.6, clip_on=False, **shape)
    bar = ([at - 0.34, at + 0.34], [values.mean()] * 2)
    axes.plot(*(bar if upright else bar[::-1]), color=style.BLACK, lw=1.3, solid_capstyle="butt")


def draw_differences(
    axes: Axes, pairs: pd.DataFrame, values: pd.DataFrame, metric: str, alpha: float
) -> None:
    """A row per pair, first minus second: a point per subject, the mean with its interval, and p.

    ``values`` holds the measures by subject and configuration. The marker of the mean is filled if
    the corrected p is below ``alpha``, else hollow. A pair without an ``n`` was not tested, and its
    row stays empty.
    """
    axes.axvline(0, color=style.GREY, lw=0.6, zorder=0)
    if pairs["n"].isna().all():
        axes.set_title("none tested", fontsize=5.5, fontweight="normal", color=style.GREY)
    names = []
    for at, (_, pair) in enumerate(pairs.iterrows()):
        sides = [(pair[f"model_{side}"], pair[f"inputs_{side}"]) for side in "ab"]
        names.append(f"\n{style.MINUS} ".join(style.configuration_name(*side) for side in sides))
        axes.axhline(at - 0.68, color=style.PALE, lw=0.5, zorder=0)
        if np.isnan(pair["n"]):
            continue
        first, second = (of_configuration(values, *side)[metric] for side in sides)
        points = np.sort((first - second).dropna())
        places, grey = at + 0.4 * spread(len(points)), "#b8b8b8"
        axes.scatter(points, places, s=4, color=grey, linewidths=0, clip_on=False)
        axes.plot([pair["ci_low"], pair["ci_high"]], [at, at], color=style.BLACK, lw=1.1)
        significant = pair["p_holm"] < alpha
        face = style.BLACK if significant else "white"
        axes.plot(pair["mean_difference"], at, "o", mec=style.BLACK, mfc=face, ms=4, mew=0.9)
        words = {"fontsize": 5.5, "fontweight": "bold" if significant else "normal"}
        place = {"xycoords": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
        axes.annotate(p_text(pair["p_holm"]), (1, at - 0.43), **place, **words)
    axes.set_ylim(len(pairs) - 0.6, -0.7)
    axes.set_yticks(range(len(names)), names)
    bare_rows(axes)


def bare_rows(axes: Axes) -> None:
    """Leave the names of an axes' rows without a line and ticks, and few ticks below them."""
    axes.tick_params("y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params("x", nbins=4)


def draw_legend(figure: Figure, looks: dict[str, style.Look]) -> None:
    """A legend above the panels: markers beside the names that are printed."""
    figure.legend(
        handles=[
            Line2D([], [], color=look.colour, marker=look.marker, ls="", label=name)
            for name, look in looks.items()
        ],
        loc="outside upper left",
        ncols=len(looks),
    )


def root_scale(axes: Axes, which: str, ticks: Sequence[float]) -> None:
    """A square-root scale on both sides of 0 for the ``x`` or ``y`` axis, with ``ticks`` on both.

    It is for volumes and percentages, of which a few are very large. If two ticks are less than a
    fifth of the axis apart, only the larger one is kept. The limits do not change.
    """
    limits = getattr(axes, f"get_{which}lim")()
    kept, place = [], {tick: np.sqrt(tick / max(map(abs, limits))) for tick in ticks}
    for tick in sorted(place, reverse=True):
        if 0.2 <= place[tick] <= 1 and (not kept or place[kept[0]] - place[tick] >= 0.2):
            kept.insert(0, tick)
    both = [*(-tick for tick in reversed(kept)), 0, *kept]
    root = (
        lambda values: np.sign(values) * np.sqrt(np.abs(values)),
        lambda values: np.sign(values) * np.square(values),
    )
    getattr(axes, f"set_{which}scale")("function", functions=root)
    getattr(axes, f"set_{which}ticks")(
        both, [f"{tick:g}".replace("-", style.MINUS) for tick in both]
    )
    getattr(axes, f"set_{which}lim")(limits)


def cohort_kind(study: Study) -> str:
    """The kind of a study's cohort, as captions name it."""
    source = study.cohort.source
    return source if source in ("simulated", "challenge") else "study's own"


def labels_kind(study: Study) -> str:
    """The kind of region labels that models learn: ``registered``, ``true`` or ``published``."""
    return {"known": "true", "published": "published"}.get(study.regions.atlas, "registered")


def source_names(study: Study) -> dict[str, str]:
    """Printed names of the sources of a burden table, by the study's kind of region labels."""
    names = {source: look.name for source, look in style.SOURCES.items()}
    return names | {"registered": f"{labels_kind(study).capitalize()} regions"}


def cohort_words(study: Study, subjects: Iterable[str]) -> str:
    """The last sentence of a caption, which says where the numbers come from.

    ``subjects`` are those that are shown; several sessions of a person are one of the n subjects.
    """
    kind, sessions = cohort_kind(study), set(subjects)
    n = len({person_of(session) for session in sessions})
    often = f" in {len(sessions)} sessions" if len(sessions) > n else ""
    warning = " Simulated data: no statement about patients." if kind == "simulated" else ""
    return f"n = {n} test subjects{often} of the {kind} cohort, study {study.name!r}.{warning}"


def means_words(study: Study) -> str:
    """A sentence of a caption that says that values are means over trainings, if there are some."""
    n = study.training.repeats
    return f"Values are means over {n} trainings of each model. " if n > 1 else ""


def first_training_words(study: Study) -> str:
    """A sentence of a caption that says which of several trainings the pictures are from."""
    n = study.training.repeats
    return f"Predictions in pictures are those of the first of {n} trainings. " if n > 1 else ""


def test_words(comparisons: pd.DataFrame, pairs: pd.DataFrame, alpha: float) -> str:
    """A sentence on how the families of ``pairs`` were tested and corrected.

    It includes a warning if a family has so few subjects that no test can be significant.
    """
    families = pairs["family"].unique()
    groups = {family: comparisons[comparisons["family"] == family] for family in families}
    if not groups:
        return "No difference was tested."
    shown = ", ".join(f"'{family}' ({len(rows)} tests)" for family, rows in groups.items())
    several = "families" if len(groups) > 1 else "family"
    words = (
        "Two-sided Wilcoxon signed-rank tests of paired differences, p corrected by Holm's method "
        f"over the {several} {shown}; filled symbols and bold p: corrected p < {alpha:g}. "
        f"Lines: {100 * (1 - alpha):g} % bootstrap intervals of the mean difference. Pairs without "
        "a symbol were not tested."
    )
    weak = [
        f"'{family}'"
        for family, rows in comparisons.groupby("family", sort=False)
        if family in groups and smallest_p(int(rows["n"].max()), len(rows)) >= alpha
    ]
    if weak:
        words += (
            f" With so few subjects the correction leaves little or no power in {', '.join(weak)}."
        )
    return words


def smallest_p(n: int, tests: int) -> float:
    """The smallest corrected p that ``n`` pairs can reach in a family of ``tests``.

    >>> smallest_p(6, 2)
    0.0625
    """
    return min(1.0, tests * 2.0 ** (1 - n))
