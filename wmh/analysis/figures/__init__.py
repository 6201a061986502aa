"""The study's figures: one ``load_*`` and ``plot_*`` pair each, the same for page and paper.

``load_*`` reads a study's tables and images and returns what is shown, with its ``caption``;
``plot_*`` draws it. Nothing is computed here that a table should hold.

>>> data = load_measures(study)  # doctest: +SKIP
>>> save_figure(plot_measures(data), study.figures, "03_measures", data.caption)  # doctest: +SKIP
"""

from wmh.analysis.figures.burden import load_burden, plot_burden
from wmh.analysis.figures.claims import load_claims, plot_claims
from wmh.analysis.figures.curves import load_curves, plot_curves
from wmh.analysis.figures.frequency import load_frequency, plot_frequency
from wmh.analysis.figures.measures import load_measures, plot_measures
from wmh.analysis.figures.missing import load_missing, plot_missing
from wmh.analysis.figures.pipeline import load_pipeline, plot_pipeline
from wmh.analysis.figures.qualitative import load_qualitative, plot_qualitative
from wmh.analysis.figures.regions import load_regions, plot_regions
from wmh.analysis.figures.scanners import load_scanners, plot_scanners
from wmh.analysis.style import save_figure

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

__all__ = [
    "FIGURES",
    "load_burden",
    "load_claims",
    "load_curves",
    "load_frequency",
    "load_measures",
    "load_missing",
    "load_pipeline",
    "load_qualitative",
    "load_regions",
    "load_scanners",
    "plot_burden",
    "plot_claims",
    "plot_curves",
    "plot_frequency",
    "plot_measures",
    "plot_missing",
    "plot_pipeline",
    "plot_qualitative",
    "plot_regions",
    "plot_scanners",
    "save_figure",
]
