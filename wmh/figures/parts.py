"""Parts that several figures share: reading the tables, drawing points and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from wmh.cohorts.cohort import PATHS
from wmh.figures.printed_numbers import p_text
from wmh.figures.style import (
    BLACK,
    GIVEN,
    GREY,
    MINUS,
    MODELS,
    PALE,
    Look,
    configuration_name,
    in_order,
)
from wmh.images import Image, load_labels
from wmh.study import Study, StudyError, project_root

MADE_BY = {
    "cohort": "01_data_preparation",
    "regions": "02_atlas_registration",
    "metrics": "05_evaluation",
    "comparisons": "06_statistics",
    "claims": "06_statistics",
    "burden": "05_evaluation",
    "cohort_burden": "07_localization",
    "groups": "07_localization",
}
KEYS = ["subject", "scanner", "model", "inputs_given"]


def read_table(study: Study, name: str) -> pd.DataFrame:
    """Read ``results/STUDY/NAME.csv``; :class:`StudyError` if absent.

    Identities stay text, and the files that the cohort table names are found from anywhere.
    """
    path = study.results / f"{name}.csv"
    if not path.is_file():
        raise StudyError(f"{path}: not there yet. Run notebook {MADE_BY[name]} of this study first")
    table = pd.read_csv(path, dtype={"id": str, "subject": str})
    for column in set(PATHS) & set(table.columns) if name == "cohort" else ():
        table[column] = table[column].map(project_root().joinpath, na_action="ignore")
    return table


def lesion_values(study: Study) -> pd.DataFrame:
    """The lesion measures: one row a subject and configuration, one column a measure.

    Means over the repeats of the study; NaN where any of them has no value.
    """
    by_repeat = lesion_values_by_repeat(study)
    return (
        by_repeat.drop(columns="repeat").groupby(KEYS, sort=False).mean(skipna=False).reset_index()
    )


def lesion_values_by_repeat(study: Study) -> pd.DataFrame:
    """The lesion measures: one row a subject, configuration and repeat, one column a measure."""
    metrics = read_table(study, "metrics")
    lesions = metrics[metrics["structure"] == "lesions"]
    # pivot and not pivot_table: a value that stands there twice is an error, not to be averaged
    wide = lesions.pivot(index=[*KEYS, "repeat"], columns="metric", values="value")  # noqa: PD010
    return wide.reset_index().rename_axis(columns=None)


def own_configurations(values: pd.DataFrame) -> list[tuple[str, str]]:
    """Each model of a table with the most images it was given, in the order always shown."""
    given = values.groupby("model")["inputs_given"].unique()
    return [(m, in_order(given[m], GIVEN)[0]) for m in in_order(values["model"], MODELS)]


def of_configuration(values: pd.DataFrame, model: str, given: str) -> pd.DataFrame:
    """The rows of one model given certain images, indexed and sorted by subject."""
    chosen = values[(values["model"] == model) & (values["inputs_given"] == given)]
    return chosen.set_index("subject").sort_index()


def tested_pairs(
    comparisons: pd.DataFrame, configurations: list[tuple[str, str]], metrics: list[str]
) -> pd.DataFrame:
    """The comparisons of lesion measures whose two sides are both among ``configurations``."""
    sides = [
        pd.Series(zip(comparisons[f"model_{side}"], comparisons[f"inputs_{side}"], strict=True))
        for side in "ab"
    ]
    shown = sides[0].isin(configurations) & sides[1].isin(configurations)
    about_lesions = (comparisons["structure"] == "lesions") & comparisons["metric"].isin(metrics)
    return comparisons[shown.to_numpy() & about_lesions.to_numpy()]


def pair_name(row: pd.Series) -> str:
    """Printed name of a comparison, in two lines: the one, minus the other."""
    first = configuration_name(row["model_a"], row["inputs_a"])
    return f"{first}\n{MINUS} {configuration_name(row['model_b'], row['inputs_b'])}"


def spread(count: int) -> np.ndarray:
    """Offsets in (-0.5, 0.5) that keep neighbouring points apart: van der Corput's sequence.

    >>> spread(4)
    array([ 0.   , -0.25 ,  0.25 , -0.375])
    """
    offsets = np.zeros(count)
    for index in range(count):
        number, share = index + 1, 0.5
        while number:
            offsets[index] += share * (number % 2)
            number, share = number // 2, share / 2
    return offsets - 0.5


def draw_points(axes: Axes, values: np.ndarray, at: float, look: Look, upright: bool) -> None:
    """One point a subject and a bar at the mean, around position ``at``; NaN are left out.

    ``upright``: values run up the vertical axis; otherwise along the horizontal one.
    """
    values = np.sort(np.asarray(values, dtype=float)[~np.isnan(values)])
    if values.size == 0:
        return
    places = at + 0.5 * spread(values.size)
    points = (places, values) if upright else (values, places)
    axes.scatter(*points, s=7, color=look.colour, marker=look.marker, alpha=0.6, linewidths=0)
    bar = ([at - 0.34, at + 0.34], [values.mean()] * 2)
    axes.plot(*(bar if upright else bar[::-1]), color=BLACK, lw=1.3, solid_capstyle="butt")


def root_scale(axes: Axes, which: str, ticks: Sequence[float]) -> None:
    """A square-root scale on both sides of 0 for the ``x`` or ``y`` axis, with ``ticks`` on both.

    For volumes and percentages, of which a few are very large. Of ticks that would lie too close
    together to be read, the larger one stays. The limits stay too.
    """
    limits = getattr(axes, f"get_{which}lim")()
    ticks = readable(ticks, max(map(abs, limits)))
    both = [*(-tick for tick in reversed(ticks)), 0, *ticks]
    getattr(axes, f"set_{which}scale")("function", functions=(_signed_root, _signed_square))
    getattr(axes, f"set_{which}ticks")(both, [f"{tick:g}".replace("-", MINUS) for tick in both])
    getattr(axes, f"set_{which}lim")(limits)


def readable(ticks: Sequence[float], end: float) -> list[float]:
    """The ticks of a square-root scale up to ``end`` that stand a fifth of it apart.

    >>> readable((1, 4, 10, 20, 40, 80), 100)
    [10, 40, 80]
    """
    kept, place = [], {tick: np.sqrt(tick / end) for tick in ticks if tick <= end}
    for tick in sorted(place, reverse=True):
        if place[tick] >= 0.2 and (not kept or place[kept[0]] - place[tick] >= 0.2):
            kept.insert(0, tick)
    return kept


def round_below(limit: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above ``limit``.

    >>> round_below(3900), round_below(0.7)
    (2000.0, 0.5)
    """
    power = 10.0 ** np.floor(np.log10(limit))
    return float(max(step * power for step in (1, 2, 5) if step * power <= limit))


def _signed_root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)


def draw_differences(axes: Axes, pairs: pd.DataFrame, apart: dict, alpha: float) -> None:
    """Each tested pair's differences: a point a subject, the mean with its interval, and p.

    ``apart`` holds each pair's differences by subject. The mean is filled where the corrected p is
    below ``alpha`` and hollow where it is not.
    """
    axes.axvline(0, color=GREY, lw=0.6, zorder=0)
    if pairs.empty:
        axes.set_title("none tested", fontsize=5.5, fontweight="normal", color=GREY)
    for at, (_, row) in enumerate(pairs.iterrows()):
        axes.axhline(at - 0.68, color=PALE, lw=0.5, zorder=0)
        points = np.sort(apart[pair_key(row)])
        axes.scatter(points, at + 0.4 * spread(len(points)), s=4, color="#b8b8b8", linewidths=0)
        axes.plot([row["ci_low"], row["ci_high"]], [at, at], color=BLACK, lw=1.1)
        face = BLACK if row["p_holm"] < alpha else "white"
        axes.plot(row["mean_difference"], at, "o", mec=BLACK, mfc=face, ms=4, mew=0.9)
        axes.annotate(
            p_text(row["p_holm"]),
            (1, at - 0.43),
            xycoords=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=5.5,
            fontweight="bold" if row["p_holm"] < alpha else "normal",
        )
    axes.set_ylim(len(pairs) - 0.6, -0.7)


def pair_key(row: pd.Series) -> tuple[str, str, str, str]:
    """What identifies a comparison within a measure."""
    return row["model_a"], row["inputs_a"], row["model_b"], row["inputs_b"]


def subject_differences(values: pd.DataFrame, pairs: pd.DataFrame, metric: str) -> dict:
    """Differences by subject, first minus second, of each pair in one measure; NaN left out."""
    apart = {}
    for _, row in pairs.iterrows():
        first = of_configuration(values, row["model_a"], row["inputs_a"])[metric]
        second = of_configuration(values, row["model_b"], row["inputs_b"])[metric]
        apart[pair_key(row)] = (first - second).dropna().to_numpy()
    return apart


def cohort_kind(study: Study) -> str:
    """What kind of cohort a study has, as captions name it."""
    source = study.cohort.source
    return source if source in ("simulated", "challenge") else "study's own"


def labels_kind(study: Study) -> str:
    """What the region labels are that models learn: ``registered``, ``true`` or ``published``."""
    return {"known": "true", "published": "published"}.get(study.regions.atlas, "registered")


def cohort_words(study: Study, subjects: int, split: str = "test") -> str:
    """Where the numbers come from, as the caption's last sentence."""
    kind = cohort_kind(study)
    warning = " Simulated data: no statement about patients." if kind == "simulated" else ""
    return f"n = {subjects} {split} subjects of the {kind} cohort, study {study.name!r}.{warning}"


def test_words(comparisons: pd.DataFrame, families: list[str], alpha: float) -> str:
    """How the comparisons of these families were tested and corrected."""
    if not families:
        return "No difference was tested."
    sizes = comparisons["family"].value_counts()
    shown = ", ".join(f"'{family}' ({sizes[family]} tests)" for family in families)
    several = "families" if len(families) > 1 else "family"
    return (
        "Two-sided Wilcoxon signed-rank tests of paired differences, p corrected by Holm's method "
        f"over the {several} {shown}; filled symbols and bold p: corrected p < {alpha:g}. "
        f"Lines: {100 * (1 - alpha):g} % bootstrap intervals of the mean difference. Pairs without "
        f"a symbol were not tested.{_too_few_words(comparisons, families, alpha)}"
    )


def smallest_p(n: int, tests: int) -> float:
    """The smallest corrected p that ``n`` pairs can reach in a family of ``tests``.

    >>> smallest_p(6, 2)
    0.0625
    """
    return min(1.0, tests * 2.0 ** (1 - n))


def _too_few_words(comparisons: pd.DataFrame, families: list[str], alpha: float) -> str:
    """A warning where a family has so few subjects that no first test of it can be significant."""
    groups = comparisons[comparisons["family"].isin(families)].groupby("family", sort=False)
    weak = [name for name, rows in groups if smallest_p(int(rows["n"].max()), len(rows)) >= alpha]
    if not weak:
        return ""
    named = ", ".join(f"'{name}'" for name in weak)
    return f" With so few subjects the correction leaves little or no power in {named}."


def prediction(study: Study, model: str, given: str, subject: str, kind: str) -> Image:
    """A stored prediction of one test subject: ``lesions`` or ``regions``."""
    return load_labels(prediction_path(study, model, given, subject, kind))


def prediction_path(study: Study, model: str, given: str, subject: str, kind: str) -> Path:
    """Where notebook 05 puts a prediction."""
    folder = study.results / "predictions" / study.run_name(model) / given
    return folder / f"{subject}_{kind}.nii.gz"


def fullest_prediction(study: Study, model: str, subject: str, kind: str) -> Path | None:
    """The file of what a model made of the most images it was given; None without any."""
    paths = (prediction_path(study, model, given, subject, kind) for given in GIVEN)
    return next((path for path in paths if path.is_file()), None)
