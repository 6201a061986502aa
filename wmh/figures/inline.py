"""Small charts that notebooks show beside a result or during a training; they are not saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from IPython import get_ipython
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from wmh.atlas.regions import ALL_LABELS, mni_t1
from wmh.cohorts.cohort import Subject, load_lesions
from wmh.figures import brain, frequency, slices, style
from wmh.figures.browse import HEADLESS
from wmh.images import Image, load_labels

if TYPE_CHECKING:  # seconds to import, in notebooks that train nothing
    import torch

NOTHING = {"text/plain": ""}


@style.styled
def lesion_volumes(cohort: pd.DataFrame) -> style.StyledFigure:
    """Lesion volume (ml, logarithmic) of each subject, scanner by scanner, both splits."""
    from seaborn import swarmplot  # two seconds, for one notebook

    figure = style.new_figure(55, style.SINGLE_COLUMN * 1.4)
    axes = figure.subplots()
    scanners = style.in_order(cohort["scanner"], cohort["scanner"].unique())
    with_lesion = cohort[cohort["lesion_ml"] > 0]
    swarmplot(
        with_lesion, x="scanner", y="lesion_ml", hue="split", order=scanners, dodge=True,
        hue_order=("training", "test"),
        log_scale=True, size=3, ax=axes, palette={"training": style.BLUE, "test": style.VERMILION},
    )  # fmt: skip
    axes.set_xticks(range(len(scanners)), [style.scanner_name(name) for name in scanners])
    axes.set(xlabel="", ylabel="Lesion volume (ml)")
    axes.yaxis.set_major_formatter("{x:g}")  # 20 and not 2 x 10^1
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@style.styled
def learning_curve(history: pd.DataFrame, steps: int | None = None) -> style.StyledFigure:
    """Training and validation loss, and validation Dice, against the step.

    Each validation is a dot. For a running training, ``steps`` is its total number of steps.
    """
    figure = style.new_figure(45, style.DOUBLE_COLUMN * 0.7)
    left, right = figure.subplots(1, 2)
    dots = {"marker": ".", "ms": 3}
    left.plot("step", "train_loss", data=history, color=style.BLUE, label="training", **dots)
    left.plot(
        "step", "validation_loss", data=history, color=style.VERMILION, label="validation", **dots
    )
    left.set(xlabel="Step", ylabel="Loss", xlim=(0, steps))
    left.legend(frameon=False)
    right.plot("step", "validation_dice", data=history, color=style.VERMILION, **dots)
    kept = history.loc[history["steady_dice"].idxmax()]
    right.plot(kept["step"], kept["validation_dice"], "o", color=style.VERMILION, ms=4)
    right.set(xlabel="Step", ylabel="Validation Dice", xlim=(0, steps), ylim=(0, 1))
    return figure


def live_curve(steps: int) -> Callable[[pd.DataFrame], None]:
    """Return a function that draws a training's history, to be called after each validation.

    The same picture is updated each time. After the last of ``steps`` it is removed, because the
    final figure follows; if a training stops early, it stays. Nothing is drawn when a study runs,
    or outside a notebook.
    """
    if os.environ.get(HEADLESS) or getattr(get_ipython(), "kernel", None) is None:
        return lambda history: None
    picture = display(NOTHING, raw=True, display_id=True)

    def draw(history: pd.DataFrame) -> None:
        ended = history["step"].iloc[-1] >= steps
        image = NOTHING if ended else {"image/png": learning_curve(history, steps)._repr_png_()}
        picture.update(image, raw=True)

    return draw


@style.styled
def batch(
    images: torch.Tensor, labels: dict[str, torch.Tensor], count: int = 8
) -> style.StyledFigure:
    """The first slices of a batch (B, channels, H, W), lesions outlined or regions in colour.

    Patches of volumes (B, channels, X, Y, Z) are shown by their middle axial slice.
    """
    if images.ndim == 5:
        middle = images.shape[-1] // 2
        images = images[..., middle]
        labels = {name: stack[..., middle] for name, stack in labels.items()}
    count = min(count, len(images))
    channels, height, width = images.shape[1:]
    cell = style.DOUBLE_COLUMN / max(count, 4)
    figure = style.new_figure(channels * cell * width / height, cell * count, pad=0.01, space=0)
    grid = figure.subplots(channels, count, squeeze=False)
    structure, truth = next(iter(labels.items()))
    for index in range(count):
        for channel in range(channels):
            axes = grid[channel, index]
            axes.imshow(images[index, channel].T, vmin=0, vmax=2)
            _draw_labels(axes, truth[index], in_colour=structure == "regions")
            axes.set_axis_off()
    return figure


@style.styled
def formula(text: str) -> style.StyledFigure:
    """A TeX formula as a picture, so that pages can show it without a network."""
    figure = style.new_figure(16)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=13)
    return figure


@style.styled
def learning_rates(rates: Sequence[float]) -> style.StyledFigure:
    """The learning rate of each step."""
    figure = style.new_figure(35, style.SINGLE_COLUMN)
    axes = figure.subplots()
    axes.plot(range(1, len(rates) + 1), rates, color=style.BLUE)
    axes.set(xlabel="Step", ylabel="Learning rate", xlim=(0, len(rates)), ylim=(0, None))
    axes.locator_params("x", integer=True)
    return figure


@style.styled
def answer(images: torch.Tensor, truth: torch.Tensor, found: torch.Tensor) -> style.StyledFigure:
    """A slice's FLAIR and T1 (2, H, W), and on the FLAIR the true and the predicted labels.

    Labels (H, W) are those of lesions, outlined, or of regions, coloured.
    """
    height, width = truth.shape
    figure = style.new_figure(style.DOUBLE_COLUMN / 4 * width / height + 5)
    panels = {"FLAIR": None, "T1": None, "Truth": truth, "Found": found}
    for axes, (title, labels) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.set_axis_off()
        axes.set_title(title)
        image = images[1 if title == "T1" else 0]
        axes.imshow(image.T, vmin=0, vmax=2)
        if labels is not None:
            _draw_labels(axes, labels, in_colour=truth.max() > 2)
    return figure


@style.styled
def region_slices(labels: torch.Tensor, titles: Sequence[str]) -> style.StyledFigure:
    """Slices of region labels (N, H, W), side by side."""
    count, height, width = labels.shape
    figure = style.new_figure(style.DOUBLE_COLUMN / count * width / height + 5)
    for axes, one, title in zip(figure.subplots(1, count), labels, titles, strict=True):
        axes.set_axis_off()
        axes.set_title(title)
        _draw_labels(axes, one, in_colour=True)
    return figure


def _draw_labels(axes: Axes, labels: torch.Tensor, in_colour: bool) -> None:
    """Draw labels (H, W) over the picture in the axes: regions in colour, or lesions outlined."""
    if in_colour:
        axes.imshow(labels.T, cmap=slices.region_colours(), vmin=0, vmax=ALL_LABELS[-1], alpha=0.7)
    elif (labels == 1).any():
        axes.contour((labels == 1).float().T, [0.5], colors=style.VERMILION, linewidths=0.8)


@style.styled
def lesion_frequency(subjects: Sequence[Subject]) -> style.StyledFigure:
    """Frequency of lesion at each place of MNI152 among subjects whose true regions are known."""
    total = 0
    for subject in subjects:
        matrix = frequency.matrix_to_mni(load_labels(subject.true_regions))
        total += frequency.carry_to_mni(load_lesions(subject), matrix).data
    share = Image(total / len(subjects), mni_t1(brain.RESOLUTION_MM).affine)
    figure = style.new_figure(40)
    limits = (0.0, float(share.data.max()))
    scale = brain.ColourScale(limits, f"share of {len(subjects)} subjects")
    brain.draw_maps(brain.lay_out_maps(figure, {"map": ""}, scale), {"map": share}, scale)
    return figure
