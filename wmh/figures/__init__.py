"""The study's figures, each drawn by the module with its name.

``draw`` of such a module reads a study's tables and images, and returns the figure and its caption.
All numbers come from the tables; figures compute none of their own.

>>> figure, caption = make_figure(study, "03_measures")  # doctest: +SKIP
>>> save_figure(figure, study.figures, "03_measures", caption)  # doctest: +SKIP
"""

from importlib import import_module

from wmh.figures.style import StyledFigure, new_figure, styled
from wmh.results import FIGURES
from wmh.study import Study, StudyError

ABOUT = {
    **dict.fromkeys(("02_qualitative", "03_measures", "04_missing", "05_scanners"), "lesions"),
    "06_regions": "regions",
}
"""The structure that a model must predict, so that a figure has something to show."""


@styled
def make_figure(study: Study, name: str) -> tuple[StyledFigure, str]:
    """One of the figures in :data:`wmh.results.FIGURES` for a study, and its caption.

    If no model of the study predicts the figure's structure, the figure only says so. Raises
    :class:`StudyError` for an unknown name.
    """
    if name not in FIGURES:
        raise StudyError(f"no figure {name!r}; the figures are {', '.join(FIGURES)}")
    about = ABOUT.get(name)
    if about and not study.models_of(about, "multitask"):
        caption = f"No model of study {study.name!r} predicts {about}: there is nothing to show."
        figure = new_figure(12)
        figure.text(0.5, 0.5, caption, ha="center", va="center")
        return figure, caption
    return import_module(f"wmh.figures.{name[3:]}").draw(study)
