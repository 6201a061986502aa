"""Figure 9: how each model learned."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from wmh.analysis.style import (
    DOUBLE_COLUMN,
    GREY,
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
        "part of the training split: of lesions, or the mean over regions for the region model. "
        f"{training}. "
        f"Study {study.name!r}."
    )
    return Curves(histories, caption)


@styled
def plot_curves(data: Curves) -> StyledFigure:
    """A column a model: losses above, validation Dice below."""
    figure = new_figure(DOUBLE_COLUMN, 66)
    panels = figure.subplots(2, len(data.histories), sharey="row", sharex="col", squeeze=False)
    above, below = panels
    for (model, history), upper, lower in zip(data.histories.items(), above, below, strict=True):
        look = look_of(model)
        upper.plot("step", "train_loss", data=history, color="#a8a8a8", lw=0.8)
        for axes, column in ((upper, "validation_loss"), (lower, "validation_dice")):
            checked = history.dropna(subset=[column])
            axes.plot(checked["step"], checked[column], color=look.colour, marker=look.marker)
        upper.set_title(look.name)
        lower.set(ylim=(0, 1), xlabel="step")
        last = history["validation_dice"].dropna()
        if len(last):
            lower.annotate(
                f"{last.iloc[-1]:.2f}",
                (0.97, 0.05),
                xycoords="axes fraction",
                ha="right",
                color=GREY,
            )
    above[0].set(ylabel="loss")
    above[0].set_ylim(bottom=0)
    below[0].set(ylabel="validation Dice")
    letter(above[0], "a")
    letter(below[0], "b")
    return figure
