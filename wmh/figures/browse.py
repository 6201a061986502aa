"""Pick a subject, a slice and what to see, by hand, in JupyterLab; a still picture elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from matplotlib.axes import Axes

from wmh.cohorts.cohort import Subject, load_lesions, load_pair
from wmh.figures.slices import (
    Box,
    draw_errors,
    draw_labels,
    draw_outline,
    draw_slice,
    fullest_slice,
    head_box,
    height_over_width,
)
from wmh.figures.style import MM, SINGLE_COLUMN, VERMILION, StyledFigure, new_figure, styled
from wmh.images import Image, to_ras

HEADLESS = "WMH_HEADLESS"
"""Environment variable: set where nobody can turn a control, as when a study is run."""

Load = Callable[[Subject], Image]
"""Loads what lies over a subject's scan."""

Draw = Callable[[Axes, Subject, int, Box], None]
"""Draws over one slice: axes, subject, slice, box around the head."""


def browse(
    subjects: Sequence[Subject],
    predictions: Mapping[str, Load] | None = None,
    regions: Mapping[str, Load] | None = None,
) -> object:
    """Controls for subject, image, what is shown over it, and slice, above the picture.

    Over FLAIR or T1: the outline of the true lesions, any of ``predictions`` with its errors in
    colour, or any of ``regions``. In a run without anyone at it, the picture of the first choices.
    """

    def draw_truth(axes: Axes, subject: Subject, z: int, box: Box) -> None:
        draw_outline(axes, load_lesions(subject), z, VERMILION, box)

    def errors_of(load: Load) -> Draw:
        return lambda axes, subject, z, box: draw_errors(
            axes, load_lesions(subject), load(subject), z, box
        )

    def regions_of(load: Load) -> Draw:
        return lambda axes, subject, z, box: draw_labels(axes, load(subject), z, box)

    views = {"true lesions": draw_truth}
    views |= {name: errors_of(load) for name, load in (predictions or {}).items()}
    views |= {name: regions_of(load) for name, load in (regions or {}).items()}
    people = {f"{subject.id} ({subject.scanner}, {subject.split})": subject for subject in subjects}
    scans = lru_cache(maxsize=2)(load_pair)

    def show(subject: str, image: str, over: str, height: int) -> StyledFigure:
        person = people[subject]
        scan = scans(person)[("FLAIR", "T1").index(image)]
        return plot_view(person, scan, views[over], height, f"{over} over {image}")

    lesions = load_lesions(subjects[0])
    middle = round(100 * fullest_slice(lesions) / max(1, to_ras(lesions).data.shape[2] - 1))
    if os.environ.get(HEADLESS):
        return show(next(iter(people)), "FLAIR", list(views)[-1], middle)
    return _controls(show, list(people), list(views), middle)


@styled
def plot_view(subject: Subject, image: Image, draw: Draw, height: int, title: str) -> StyledFigure:
    """One axial slice, ``height`` percent of the way up, with what ``draw`` lays over it."""
    z = round(height / 100 * (to_ras(image).data.shape[2] - 1))
    width = 0.8 * SINGLE_COLUMN
    figure = new_figure(width, width / MM * height_over_width(image) + 10)
    axes = figure.subplots()
    draw_slice(axes, image, z, head_box(image))
    draw(axes, subject, z, head_box(image))
    axes.set_title(f"Subject {subject.id}, slice {z}\n{title}")
    return figure


def _controls(
    show: Callable[..., StyledFigure], people: list[str], views: list[str], height: int
) -> object:
    """The widgets; the picture is drawn again whenever one of them changes."""
    import ipywidgets as widgets  # only a notebook needs them

    controls = {
        "subject": widgets.Dropdown(options=people, description="subject"),
        "image": widgets.ToggleButtons(options=["FLAIR", "T1"]),
        "over": widgets.Dropdown(options=views, description="show"),
        "height": widgets.IntSlider(height, 0, 100, description="height, %"),
    }
    picture = widgets.Image(format="png")

    def redraw(_: object = None) -> None:
        chosen = {name: control.value for name, control in controls.items()}
        picture.value = show(**chosen)._repr_png_()

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return widgets.VBox([*controls.values(), picture])
