"""Figure 9: how each model learned."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from wmh.figures.printed import printed
from wmh.figures.style import (
    DOUBLE_COLUMN,
    MODELS,
    StyledFigure,
    in_order,
    letter,
    look_of,
    new_figure,
    styled,
)
from wmh.study import Study, StudyError


@dataclass(frozen=True)
class Curves:
    """Each model's ``history.csv``, one per repeat, in the order always shown."""

    histories: dict[str, list[pd.DataFrame]]
    caption: str


def load_curves(study: Study) -> Curves:
    """The learning curve of every model trained so far."""
    histories = {
        model: _tables_of_repeats(study, model, "history")
        for model in in_order(study.models, MODELS)
    }
    histories = {model: tables for model, tables in histories.items() if tables}
    if not histories:
        raise StudyError(f"{study.results / 'models'}: no history.csv. Run notebooks 03 and 04")
    training = ", ".join(
        f"{look_of(model).name} {first['step'].max():.0f} steps in "
        f"{first['seconds'].sum() / 60:.1f} min"
        for model, (first, *_) in histories.items()
    )
    repeats = max(map(len, histories.values()))
    trainings = "training" if repeats == 2 else "trainings"
    others = f"Pale: {repeats - 1} more {trainings} with other seeds. " if repeats > 1 else ""
    caption = (
        "Learning curves. (a) Loss in training (grey) and on the validation subjects (coloured); "
        "losses of different tasks are not comparable. (b) Dice on the validation subjects, a "
        "part of the training split: of lesions, or the mean over regions for the region model; "
        f"the joint model has both. {others}{training}. "
        f"{_people_words(study, next(iter(histories)))}Study {study.name!r}."
    )
    return Curves(histories, caption)


@styled
def plot_curves(data: Curves) -> StyledFigure:
    """A column per model: losses above, validation Dice below."""
    figure = new_figure(DOUBLE_COLUMN, 70)
    above, below = figure.subplots(2, len(data.histories), sharex="col", squeeze=False)
    for (model, tables), upper, lower in zip(data.histories.items(), above, below, strict=True):
        look = look_of(model)
        for history in tables[1:]:
            _draw(upper, lower, history, look.colour, alpha=0.35)
        _draw(upper, lower, tables[0], look.colour, alpha=1)
        upper.set_title(look.name.replace(" ", "\n"), fontsize=6.5)
        upper.set_ylim(bottom=0)
        lower.set(ylim=(0, 1), xlim=(0, None), xlabel="step")
        lower.tick_params("y", labelleft=lower is below[0])
        lower.legend(loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.4, borderpad=0)
    above[0].set_ylabel("loss")
    below[0].set_ylabel("validation Dice")
    letter(above[0], "a")
    letter(below[0], "b")
    return figure


def _draw(upper: Axes, lower: Axes, history: pd.DataFrame, colour: str, alpha: float) -> None:
    """One training: losses into the upper axes, Dice into the lower; only the full one is named."""
    checked = history.dropna(subset=["validation_loss", "validation_dice"])
    marker = "." if len(checked) == 1 else None  # one point makes no line
    grey = {"color": "#a8a8a8", "lw": 0.8}
    upper.plot("step", "train_loss", data=history, marker=marker, alpha=alpha, **grey)
    look = {"color": colour, "marker": marker, "alpha": alpha}
    upper.plot(checked["step"], checked["validation_loss"], **look)
    for column, name, dashes in structures_of(checked):
        label = f"{name} {printed(checked[column].iloc[-1])}" if alpha == 1 else None
        lower.plot(checked["step"], checked[column], ls=dashes, label=label, **look)


def _people_words(study: Study, model: str) -> str:
    """Number of people the models learned from and were validated on; the same for all models.

    Where each repeat validates on another fold, the smallest and the largest number.
    """
    splits = _tables_of_repeats(study, model, "split")
    if not splits:
        raise StudyError(f"{study.model_folder(model)}: no split.csv. Run notebooks 03 and 04")
    counts = pd.DataFrame(
        [split["id"].str.partition("_ses-")[0].groupby(split["part"]).nunique() for split in splits]
    )
    least, most = counts.min(), counts.max()
    learn, validate = (
        f"{least[part]}" if least[part] == most[part] else f"{least[part]} to {most[part]}"
        for part in ("learn", "validate")
    )
    return f"n = {learn} people to learn from and {validate} to validate on. "


def _tables_of_repeats(study: Study, model: str, name: str) -> list[pd.DataFrame]:
    """A table beside the checkpoint of a model, from each repeat that has been trained."""
    files = [one.model_folder(model) / f"{name}.csv" for one in study.repeats()]
    return [pd.read_csv(file, dtype={"id": str}) for file in files if file.is_file()]


def structures_of(history: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Columns of validation Dice to draw, each with its name and line style.

    A model of both structures has a column for each; the others have one.
    """
    both = (
        ("validation_lesions_dice", "lesions", "-"),
        ("validation_regions_dice", "regions", "--"),
    )
    if all(column in history and history[column].notna().all() for column, *_ in both):
        return list(both)
    return [("validation_dice", "last", "-")]
