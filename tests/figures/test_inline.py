"""Charts beside a result: the curve that grows in one place, and none where nobody watches."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from wmh.figures import inline
from wmh.figures.browse import HEADLESS

HISTORY = pd.DataFrame(
    {
        "step": [2, 4, 6],
        "train_loss": [1.0, 0.7, 0.5],
        "validation_loss": [1.1, 0.9, 0.8],
        "validation_dice": [0.1, 0.4, 0.6],
        "steady_dice": [0.1, 0.25, 0.425],
    }
)


class Display:
    """Stands in for IPython's: every content shown, in its one place."""

    def __init__(self):
        self.shown = []

    def __call__(self, content, raw, display_id):
        assert raw
        assert display_id
        self.shown.append(content)
        return self

    def update(self, content, raw):
        assert raw
        self.shown.append(content)


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    monkeypatch.setattr(inline, "get_ipython", lambda: SimpleNamespace(kernel="a kernel"))
    monkeypatch.setattr(inline, "display", stand_in := Display())
    return stand_in.shown


def test_the_picture_grows_in_its_place_and_makes_room_at_the_end(shown):
    draw = inline.live_curve(6)
    for count in (1, 2, 3):
        draw(HISTORY.head(count))
    before, first, second, after = shown
    assert before == after == inline.NOTHING
    assert first["image/png"].startswith(b"\x89PNG")
    assert first["image/png"] != second["image/png"]


def test_nothing_is_shown_in_a_run_of_a_study(shown, monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    inline.live_curve(6)(HISTORY)
    assert shown == []


@pytest.mark.parametrize("shell", [None, SimpleNamespace(kernel=None)])
def test_nothing_is_shown_outside_a_notebook(shown, monkeypatch, shell):
    monkeypatch.setattr(inline, "get_ipython", lambda: shell)
    inline.live_curve(6)(HISTORY)
    assert shown == []


def test_the_axis_reaches_to_where_the_training_will_end():
    for axes in inline.learning_curve(HISTORY, 100).axes:
        assert axes.get_xlim() == (0, 100)
    assert inline.learning_curve(HISTORY).axes[0].get_xlim()[1] < 7


def test_patches_of_volumes_are_shown_by_their_middle_axial_slice():
    images = torch.zeros(3, 2, 6, 8, 4)
    images[:, :, 4, 1, 2] = 2.0
    lesions = torch.zeros(3, 6, 8, 4, dtype=torch.uint8)
    lesions[1, 2:4, 3:5, 2] = 1
    lesions[2, 2:4, 3:5, 0] = 1
    figure = inline.batch(images, {"lesions": lesions})
    assert len(figure.axes) == 6
    for place, axes in enumerate(figure.axes):
        (shown,) = axes.images
        assert shown.get_array().shape == (8, 6)
        assert np.argwhere(shown.get_array()).tolist() == [[1, 4]]
        assert bool(axes.collections) == (place % 3 == 1)
    width, height = figure.get_size_inches()
    assert height == pytest.approx(width / 3 * 8 / 6 * 2)


def test_lesion_volumes_are_read_as_millilitres():
    cohort = pd.DataFrame(
        {"scanner": "one", "split": ["training", "test"] * 2, "lesion_ml": [8.2, 13.0, 21.0, 50.0]}
    )
    figure = inline.lesion_volumes(cohort)
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    words = {tick.get_text() for tick in axis.get_ticklabels(which="both")}
    assert {"10", "20", "40"} <= words
