"""The style: saved figures are complete, equal and at print size; nothing global changes."""

import io
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image as mpl_image
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from wmh.figures.style import (
    DOUBLE_COLUMN,
    MODELS,
    SINGLE_COLUMN,
    configuration_name,
    in_order,
    new_figure,
    own_inputs,
    save_figure,
    save_picture,
    styled,
)

# Machado et al. (2009), severity 1.0, on linear RGB
DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@styled
def small_figure(width: float = SINGLE_COLUMN):
    figure = new_figure(40, width)
    axes = figure.subplots()
    axes.plot([0, 1, 2], [1, 3, 2], label="Dice")
    axes.set_xlabel("a word")
    return figure


def test_a_saved_figure_is_three_complete_files(tmp_path):
    paths = save_figure(small_figure(), tmp_path / "deep", "one", "  A caption.\n")
    assert [path.name for path in paths] == ["one.png", "one.pdf", "one.txt"]
    assert sorted(paths) == sorted((tmp_path / "deep").iterdir())
    assert paths[2].read_text() == "A caption.\n"


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    first = save_figure(small_figure(), tmp_path / "a", "one", "c")
    second = save_figure(small_figure(), tmp_path / "b", "one", "c")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_the_pdf_embeds_its_fonts_as_outlines_and_bears_no_date(tmp_path):
    content = save_figure(small_figure(), tmp_path, "one", "c")[1].read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


@pytest.mark.parametrize("width", [SINGLE_COLUMN, DOUBLE_COLUMN])
def test_the_png_has_the_columns_width_at_300_dots_an_inch(tmp_path, width):
    path = save_picture(small_figure(width), tmp_path / "one.png")
    height, across = mpl_image.imread(path).shape[:2]
    assert across == pytest.approx(width / 25.4 * 300, abs=1)
    assert height == pytest.approx(40 / 25.4 * 300, abs=1)


def test_global_settings_stay_and_no_figure_is_left_open(tmp_path):
    from matplotlib import pyplot

    before = dict(mpl.rcParams)
    figure = small_figure()
    save_figure(figure, tmp_path, "one", "c")
    assert figure.axes[0].xaxis.label.get_size() == 7
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []


def test_a_notebook_shows_the_figure_at_half_the_resolution(monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append(data["image/png"]))
    small_figure()._ipython_display_()
    across = mpl_image.imread(io.BytesIO(shown[0])).shape[1]
    assert across == pytest.approx(90 / 25.4 * 150, abs=1)


def test_known_names_come_first_in_their_order_then_the_rest():
    assert in_order(["b", "zebra", "a", "b", "ape"], ["a", "c", "b"]) == ["a", "b", "ape", "zebra"]


@pytest.mark.parametrize(
    ("model", "given", "name"),
    [
        ("flair", "FLAIR", "FLAIR"),
        ("flair_t1", "FLAIR+T1", "Concatenated"),
        ("flair_t1", "FLAIR", "Concatenated, T1 blank"),
        ("flair_t1", "T1", "Concatenated, FLAIR blank"),
        ("interchangeable", "T1", "Interchangeable, T1 only"),
        ("unet_large", "FLAIR+T1", "Unet large"),
    ],
)
def test_configurations_have_one_printed_name(model, given, name):
    assert configuration_name(model, given) == name


def test_single_image_models_are_made_for_that_image():
    assert [own_inputs(model) for model in ("flair", "t1", "multitask")] == [
        "FLAIR",
        "T1",
        "FLAIR+T1",
    ]


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_model_colours_stay_apart_for_colour_blind_readers(deficiency):
    matrix = np.array(DEFICIENCIES.get(deficiency, np.eye(3)))
    colours = np.array([to_rgb(look.colour) for look in MODELS.values()])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ matrix.T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen)
    apart = min(np.linalg.norm(a - b) for a, b in combinations(lab, 2))
    assert apart > 10
    assert len({look.marker for look in MODELS.values()}) == len(MODELS)
