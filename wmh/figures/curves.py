"""Figure 9: how each model learned."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from wmh.figures import style
from wmh.figures.printed import printed
from wmh.study import Study, StudyError


def draw(study: Study) -> tuple[style.StyledFigure, str]:
    """A column per model trained so far: losses above, validation Dice below."""
    models = style.in_order(study.models, style.MODELS)
    histories = {model: _tables_of_repeats(study, model, "history") for model in models}
    histories = {model: tables for model, tables in histories.items() if tables}
    if not histories:
        raise StudyError(f"{study.results / 'models'}: no history.csv. Run notebooks 03 and 04")
    figure = style.new_figure(70)
    above, below = figure.subplots(2, len(histories), sharex="col", squeeze=False)
    for (model, tables), upper, lower in zip(histories.items(), above, below, strict=True):
        look = style.look_of(model)
        for history in tables[1:]:
            _draw_training(upper, lower, history, look.colour, alpha=0.35)
        _draw_training(upper, lower, tables[0], look.colour, alpha=1)
        upper.set_title(look.name.replace(" ", "\n"), fontsize=6.5)
        upper.set_ylim(bottom=0)
        lower.set(ylim=(0, 1), xlim=(0, None), xlabel="step")
        lower.tick_params("y", labelleft=lower is below[0])
        lower.legend(loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.4, borderpad=0)
    above[0].set_ylabel("loss")
    below[0].set_ylabel("validation Dice")
    style.letter(above[0], "a")
    style.letter(below[0], "b")
    training = ", ".join(
        f"{style.look_of(model).name} {first['step'].max():.0f} steps in "
        f"{first['seconds'].sum() / 60:.1f} min"
        for model, (first, *_) in histories.items()
    )
    repeats = max(map(len, histories.values()))
    trainings = "training" if repeats == 2 else "trainings"
    others = f"Pale: {repeats - 1} more {trainings} with other seeds. " if repeats > 1 else ""
    return figure, (
        "Learning curves. (a) Loss in training (grey) and on the validation subjects (coloured); "
        "losses of different tasks are not comparable. (b) Dice on the validation subjects, a "
        "part of the training split: of lesions, or the mean over regions for the region model; "
        f"the joint model has both. {others}{training}. "
        f"{_people_words(study, list(histories))} Study {study.name!r}."
    )


def _draw_training(
    upper: Axes, lower: Axes, history: pd.DataFrame, colour: str, alpha: float
) -> None:
    """Draw losses into the upper axes and Dice into the lower; only an opaque curve gets a label.

    A multi-task model has a Dice for each of its two structures; all others have one.
    """
    checked = history.dropna(subset=["validation_loss", "validation_dice"])
    marker = "." if len(checked) == 1 else None  # one point makes no line
    grey = {"color": "#a8a8a8", "lw": 0.8}
    upper.plot("step", "train_loss", data=history, marker=marker, alpha=alpha, **grey)
    look = {"color": colour, "marker": marker, "alpha": alpha}
    upper.plot(checked["step"], checked["validation_loss"], **look)
    lines = [
        ("validation_lesions_dice", "lesions", "-"),
        ("validation_regions_dice", "regions", "--"),
    ]
    if not {column for column, *_ in lines} <= set(checked.dropna(axis="columns")):
        lines = [("validation_dice", "last", "-")]
    for column, name, dashes in lines:
        label = f"{name} {printed(checked[column].iloc[-1])}" if alpha == 1 else None
        lower.plot(checked["step"], checked[column], ls=dashes, label=label, **look)


def _people_words(study: Study, models: list[str]) -> str:
    """Numbers of people that models learned from and were validated on.

    They differ between models only where the regions of some people are not known.
    """
    numbers = {model: _people_of(study, model) for model in models}
    if len(set(numbers.values())) == 1:
        return f"{numbers[models[0]]}."
    named = (f"{style.look_of(model).name}: {number}" for model, number in numbers.items())
    return f"{'; '.join(named)}."


def _people_of(study: Study, model: str) -> str:
    """The same for one model; the smallest and largest number if each repeat has its own fold."""
    splits = _tables_of_repeats(study, model, "split")
    if not splits:
        raise StudyError(f"{study.model_folder(model)}: no split.csv. Run notebooks 03 and 04")
    counts = pd.DataFrame(
        [split["id"].str.partition("_ses-")[0].groupby(split["part"]).nunique() for split in splits]
    )
    learn, validate = (
        " to ".join(map(str, sorted({counts[part].min(), counts[part].max()})))
        for part in ("learn", "validate")
    )
    return f"n = {learn} people to learn from and {validate} to validate on"


def _tables_of_repeats(study: Study, model: str, name: str) -> list[pd.DataFrame]:
    """A table in a model's folder, from each repeat that was trained."""
    files = [one.model_folder(model) / f"{name}.csv" for one in study.repeats()]
    return [pd.read_csv(file, dtype={"id": str}) for file in files if file.is_file()]
