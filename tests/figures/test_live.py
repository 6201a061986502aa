"""The curve that grows in a notebook: one picture in one place, and none where nobody watches."""

from types import SimpleNamespace

import pandas as pd
import pytest

from wmh.figures import live
from wmh.figures.look.browse import HEADLESS

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
    monkeypatch.setattr(live, "get_ipython", lambda: SimpleNamespace(kernel="a kernel"))
    monkeypatch.setattr(live, "display", stand_in := Display())
    return stand_in.shown


def test_the_picture_grows_in_its_place_and_makes_room_at_the_end(shown):
    draw = live.live_curve(6)
    for count in (1, 2, 3):
        draw(HISTORY.head(count))
    before, first, second, after = shown
    assert before == after == live.NOTHING
    assert first["image/png"].startswith(b"\x89PNG")
    assert first["image/png"] != second["image/png"]


def test_nothing_is_shown_in_a_run_of_a_study(shown, monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    live.live_curve(6)(HISTORY)
    assert shown == []


@pytest.mark.parametrize("shell", [None, SimpleNamespace(kernel=None)])
def test_nothing_is_shown_outside_a_notebook(shown, monkeypatch, shell):
    monkeypatch.setattr(live, "get_ipython", lambda: shell)
    live.live_curve(6)(HISTORY)
    assert shown == []


def test_the_axis_reaches_to_where_the_training_will_end():
    for axes in live.learning_curve(HISTORY, 100).axes:
        assert axes.get_xlim() == (0, 100)
    assert live.learning_curve(HISTORY).axes[0].get_xlim()[1] < 7
