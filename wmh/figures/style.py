"""One style for every figure: sizes, colours, printed names, and saving a figure.

Figures are made without pyplot, so that no figure stays open and no global setting changes.
Plotting functions have the decorator ``@styled``; their figures have the same style everywhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wmh.files import complete
from wmh.learning.inputs import GIVEN_TITLES

MM = 1 / 25.4
MINUS = "\N{MINUS SIGN}"
SINGLE_COLUMN, DOUBLE_COLUMN = 90, 183
"""Widths of journal columns in mm."""

BLACK, GREY, PALE = "#1a1a1a", "#767676", "#e3e3e3"
# Okabe and Ito's palette, whose colours differ in all common kinds of colour blindness.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
VERMILION, SKY, YELLOW = "#d55e00", "#56b4e9", "#f0e442"
INDIGO = "#332288"  # of Tol's palette: a seventh line on white, which yellow cannot be

SETTINGS = {
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine sets the same text
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.edgecolor": BLACK,
    "axes.labelcolor": BLACK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "text.color": BLACK,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "image.origin": "lower",
}

styled = mpl.rc_context(SETTINGS)
"""Decorator of plotting functions that applies the style's settings to all they draw."""

NO_DATES = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""Metadata that matplotlib would write into each kind of file, removed."""


@dataclass(frozen=True)
class Look:
    """The printed name of a model, and the colour and marker it is drawn with."""

    name: str
    colour: str
    marker: str


MODELS = {
    "flair": Look("FLAIR", BLUE, "o"),
    "t1": Look("T1", ORANGE, "s"),
    "flair_t1": Look("Concatenated", GREEN, "D"),
    "flair_t1_dropout": Look("Modality dropout", INDIGO, "X"),
    "interchangeable": Look("Interchangeable", PURPLE, "^"),
    "regions": Look("Regions", SKY, "P"),
    "multitask": Look("Joint", VERMILION, "v"),
}
"""The models in the order in which they are always shown."""

SOURCES = {
    "truth": Look("Truth", BLACK, "o"),
    "registered": Look("Registered regions", GREY, "h"),
    "separate": Look("Separate models", PURPLE, "^"),
    "joint": Look("Joint model", VERMILION, "v"),
}
"""The sources of the lesions and regions of a burden table."""

SCANNERS = {
    "utrecht_philips_3t": "Utrecht\nPhilips 3 T",
    "singapore_siemens_3t": "Singapore\nSiemens 3 T",
    "amsterdam_ge_3t": "Amsterdam\nGE 3 T",
    "amsterdam_ge_1p5t": "Amsterdam\nGE 1.5 T",
    "amsterdam_philips_3t": "Amsterdam\nPhilips 3 T",
}


@dataclass(frozen=True)
class Measure:
    """A measure of segmentation: its axis label and which way is better."""

    label: str
    higher_is_better: bool


MEASURES = {
    "dice": Measure("Dice", True),
    "hd95_mm": Measure("HD95 (mm)", False),
    "avd_percent": Measure("AVD (%)", False),
    "lesion_recall": Measure("Lesion recall", True),
    "lesion_f1": Measure("Lesion F1", True),
}
"""The challenge's five measures in its order."""


def look_of(model: str) -> Look:
    """The look of a model; an unknown one is grey and keeps its own name."""
    return MODELS.get(model, Look(model.replace("_", " ").capitalize(), GREY, "X"))


def own_inputs(model: str) -> str:
    """The images a model was made for: ``FLAIR``, ``T1`` or ``FLAIR+T1``."""
    return {"flair": "FLAIR", "t1": "T1"}.get(model, "FLAIR+T1")


def configuration_name(model: str, given: str) -> str:
    """Printed name of a model given certain images, e.g. ``Interchangeable, T1 only``."""
    name = look_of(model).name
    if given == own_inputs(model):
        return name
    if model == "flair_t1":
        return f"{name}, {'T1' if given == 'FLAIR' else 'FLAIR'} blank"
    return f"{name}, {GIVEN_TITLES[given]}"


def in_order(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """The distinct ``names``: first those in ``order``, in that order, then all others."""
    found = set(names)
    known = [name for name in order if name in found]
    return known + sorted(found - set(known))


def scanner_name(scanner: str) -> str:
    """Printed name of a scanner; those of the challenge have two lines."""
    return SCANNERS.get(scanner, scanner.replace("_", " "))


class StyledFigure(Figure):
    """A figure that is drawn and saved in the style, whatever the global settings are."""

    @styled
    def savefig(self, fname: Path | io.BytesIO, *, dpi: float, **settings: object) -> None:
        """Save the figure in the format of the name's ending, or of ``format``.

        No date or version is written, so that the same figure gives the same bytes.
        """
        kind = settings.get("format") or fname.suffix[1:]
        super().savefig(fname, dpi=dpi, metadata=NO_DATES[kind], **settings)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=SETTINGS["figure.dpi"])
        return buffer.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import display  # only a notebook calls this

        display({"image/png": self._repr_png_()}, raw=True)


def new_figure(
    height_mm: float,
    width_mm: float = DOUBLE_COLUMN,
    pad: float | None = None,
    space: float | None = None,
) -> StyledFigure:
    """An empty figure.

    ``pad`` (inches) and ``space`` (share of a panel) between its panels, if not matplotlib's own.
    """
    figure = StyledFigure(figsize=(width_mm * MM, height_mm * MM), layout="constrained")
    figure.get_layout_engine().set(w_pad=pad, h_pad=pad, wspace=space, hspace=space)
    return figure


def letter(axes: Axes, text: str) -> None:
    """Print a panel's letter at its upper left corner, outside the axes."""
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    bold = {"ha": "right", "va": "bottom", "fontsize": 9, "fontweight": "bold"}
    axes.annotate(text, (0, 1), (-4, 4), **place, **bold)


def save_figure(figure: StyledFigure, folder: Path, name: str, caption: str) -> list[Path]:
    """Write ``NAME.png``, ``NAME.pdf`` (vector, embedded fonts) and ``NAME.txt``, the caption.

    Each file appears only when complete. Returns the three paths.
    """
    picture, page, words = (folder / f"{name}.{kind}" for kind in ("png", "pdf", "txt"))
    for path in (picture, page):
        save_picture(figure, path)
    with complete(words) as part:
        part.write_text(caption.strip() + "\n")
    return [picture, page, words]


def save_picture(figure: StyledFigure, path: Path, dpi: float = SETTINGS["savefig.dpi"]) -> Path:
    """Write a figure as PNG or PDF, by the ending of ``path``; it appears only when complete."""
    with complete(path) as part:
        figure.savefig(part, dpi=dpi)
    return path
