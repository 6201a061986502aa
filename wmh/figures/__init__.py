"""The study's figures: one ``load_*`` and ``plot_*`` pair each, the same for page and paper.

``load_*`` reads a study's tables and images and returns what is shown, with its ``caption``;
``plot_*`` makes a figure of it; ``draw_*`` draws a part of one into its axes. Nothing is computed
here that a table should hold.

>>> figure, caption = make_figure(study, "03_measures")  # doctest: +SKIP
>>> save_figure(figure, study.figures, "03_measures", caption)  # doctest: +SKIP
"""

from wmh.figures.burden import load_burden, plot_burden
from wmh.figures.claims import load_claims, plot_claims
from wmh.figures.curves import load_curves, plot_curves
from wmh.figures.frequency import load_frequency, plot_frequency
from wmh.figures.measures import load_measures, plot_measures
from wmh.figures.missing import load_missing, plot_missing
from wmh.figures.pipeline import load_pipeline, plot_pipeline
from wmh.figures.qualitative import load_qualitative, plot_qualitative
from wmh.figures.regions import load_regions, plot_regions
from wmh.figures.scanners import load_scanners, plot_scanners
from wmh.figures.style import DOUBLE_COLUMN, StyledFigure, new_figure, styled
from wmh.study import Study

FIGURES = {
    "01_pipeline": (load_pipeline, plot_pipeline),
    "02_qualitative": (load_qualitative, plot_qualitative),
    "03_measures": (load_measures, plot_measures),
    "04_missing": (load_missing, plot_missing),
    "05_scanners": (load_scanners, plot_scanners),
    "06_regions": (load_regions, plot_regions),
    "07_burden": (load_burden, plot_burden),
    "08_frequency": (load_frequency, plot_frequency),
    "09_curves": (load_curves, plot_curves),
    "10_claims": (load_claims, plot_claims),
}
"""Every figure by the name of its file."""

ABOUT = {
    **dict.fromkeys(("02_qualitative", "03_measures", "04_missing", "05_scanners"), "lesions"),
    "06_regions": "regions",
}
"""The structure that some model has to predict for a figure to show anything."""


def make_figure(study: Study, name: str) -> tuple[StyledFigure, str]:
    """A figure of a study and its caption.

    Where no model of the study predicts what it is about, a sentence stands in its place.
    """
    load, plot = FIGURES[name]
    about = ABOUT.get(name)
    if about and not study.models_of(about, "multitask"):
        caption = f"No model of study {study.name!r} predicts {about}: there is nothing to show."
        return plot_sentence(caption), caption
    data = load(study)
    return plot(data), data.caption


@styled
def plot_sentence(text: str) -> StyledFigure:
    """A figure of one sentence."""
    figure = new_figure(DOUBLE_COLUMN, 12)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
