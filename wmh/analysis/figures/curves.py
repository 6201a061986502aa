"""Figure 9: how each model learned."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from wmh.analysis.style import (
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
    """Each model's ``history.csv``, in the order always shown."""

    histories: dict[str, pd.DataFrame]
    caption: str


def load_curves(study: Study) -> Curves:
    """The learning curve of every model trained so far."""
    files = {model: study.model_folder(model) / "history.csv" for model in study.models}
    histories = {
        model: pd.read_csv(files[model])
        for model in in_order(files, MODELS)
        if files[model].is_file()
    }
    if not histories:
        raise StudyError(f"{study.results / 'models'}: no history.csv. Run notebooks 03 and 04")
    lengths = {look_of(m).name: int(table["step"].max()) for m, table in histories.items()}
    minutes = {look_of(m).name: table["seconds"].max() / 60 for m, table in histories.items()}
    training = ", ".join(f"{m} {lengths[m]} steps in {minutes[m]:.1f} min" for m in lengths)
    caption = (
        "Learning curves. (a) Loss in training (grey) and on the validation subjects (coloured); "
        "losses of different tasks are not comparable. (b) Dice on the validation subjects, a "
        "part of the training split: of lesions, or the mean over regions for the region model; "
        f"the joint model has both. {training}. Study {study.name!r}."
    )
    return Curves(histories, caption)


@styled
def plot_curves(data: Curves) -> StyledFigure:
    """A column a model: losses above, validation Dice below."""
    figure = new_figure(DOUBLE_COLUMN, 66)
    above, below = figure.subplots(2, len(data.histories), sharex="col", squeeze=False)
    for (model, history), upper, lower in zip(data.histories.items(), above, below, strict=True):
        look = look_of(model)
        upper.plot("step", "train_loss", data=history, color="#a8a8a8", lw=0.8)
        checked = history.dropna(subset=["validation_loss", "validation_dice"])
        upper.plot(checked["step"], checked["validation_loss"], color=look.colour)
        upper.set_title(look.name)
        upper.set_ylim(bottom=0)
        for column, name, dashes in structures_of(checked):
            label = f"{name} {checked[column].iloc[-1]:.2f}"
            lower.plot(checked["step"], checked[column], color=look.colour, ls=dashes, label=label)
        lower.set(ylim=(0, 1), xlabel="step")
        lower.legend(loc="lower right", handlelength=1.6, borderpad=0, fontsize=6)
    above[0].set_ylabel("loss")
    below[0].set_ylabel("validation Dice")
    letter(above[0], "a")
    letter(below[0], "b")
    return figure


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
