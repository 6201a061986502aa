"""Controls for subject, slice and overlay in JupyterLab; elsewhere a still picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

from wmh.cohorts.cohort import Subject, load_lesions, load_pair
from wmh.figures import slices, style
from wmh.images import load_labels, to_ras
from wmh.learning.inputs import CONFIGURATIONS
from wmh.study import Study

HEADLESS = "WMH_HEADLESS"
"""Environment variable that is set where nobody can use controls, as when a study runs."""

FileOf = Callable[[str], Path]
"""The file of labels of a subject, by its identity."""


def labels_to_browse(study: Study, kind: str) -> dict[str, FileOf]:
    """The files that can be shown over a test subject, by name.

    They are the predictions of ``kind``, ``lesions`` or ``regions``, of each model from each set of
    images that it can be given; for regions also the registered ones.
    """
    files = {"registered": study.region_labels} if kind == "regions" else {}
    for model in study.models_of(kind, "multitask"):
        for given in CONFIGURATIONS[study.models[model].inputs].can_be_given:
            files[f"{model} given {given}"] = partial(study.prediction, model, given, kind=kind)
    return files


def browse(
    subjects: Sequence[Subject],
    predictions: Mapping[str, FileOf] | None = None,
    regions: Mapping[str, FileOf] | None = None,
) -> object:
    """Controls for subject, image, overlay and slice, above the picture.

    The overlay on FLAIR or T1 is the outline of the true lesions, one of ``predictions`` with its
    errors in colour, or one of ``regions``, as far as all subjects have them already. When a study
    runs, the picture of the first choices is shown without controls.
    """
    predictions, regions = (
        {name: of for name, of in (given or {}).items() if all(of(s.id).exists() for s in subjects)}
        for given in (predictions, regions)
    )
    views = ["true lesions", *predictions, *regions]
    people = {f"{subject.id} ({subject.scanner}, {subject.split})": subject for subject in subjects}
    scans = lru_cache(maxsize=2)(load_pair)

    @style.styled
    def show(subject: str, image: str, over: str, height: int) -> style.StyledFigure:
        """One axial slice, ``height`` percent of the way up."""
        person = people[subject]
        scan = scans(person)[("FLAIR", "T1").index(image)]
        z, box = round(height / 100 * (to_ras(scan).data.shape[2] - 1)), slices.head_box(scan)
        width = 0.8 * style.SINGLE_COLUMN
        figure = style.new_figure(width * slices.height_over_width(scan) + 10, width)
        axes = figure.subplots()
        slices.draw_slice(axes, scan, z, box)
        if over in regions:
            slices.draw_labels(axes, load_labels(regions[over](person.id)), z, box)
        elif over in predictions:
            found = load_labels(predictions[over](person.id))
            slices.draw_errors(axes, load_lesions(person), found, z, box)
        else:
            slices.draw_outline(axes, load_lesions(person), z, style.VERMILION, box)
        axes.set_title(f"Subject {person.id}, slice {z}\n{over} over {image}")
        return figure

    lesions = load_lesions(subjects[0])
    last = max(1, to_ras(lesions).data.shape[2] - 1)
    middle = round(100 * slices.fullest_slice(lesions) / last)
    if os.environ.get(HEADLESS):
        return show(next(iter(people)), "FLAIR", views[-1], middle)
    return _controls(show, list(people), views, middle)


def _controls(
    show: Callable[..., style.StyledFigure], people: list[str], views: list[str], height: int
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
