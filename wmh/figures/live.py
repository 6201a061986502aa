"""A learning curve that grows below a notebook's cell while it trains."""

from __future__ import annotations

import os
from collections.abc import Callable

import pandas as pd
from IPython import get_ipython
from IPython.display import display

from wmh.figures.inline import learning_curve
from wmh.figures.look.browse import HEADLESS

NOTHING = {"text/plain": ""}


def live_curve(steps: int) -> Callable[[pd.DataFrame], None]:
    """What :func:`wmh.learning.training.train` calls with the history after each validation.

    One picture is drawn again and again in its place, and makes room for the final figure after
    the last of ``steps``; one of a training that stopped stays. Where nobody watches, as when a
    study is run, or outside a notebook, nothing is drawn.
    """
    if os.environ.get(HEADLESS) or getattr(get_ipython(), "kernel", None) is None:
        return lambda history: None
    picture = display(NOTHING, raw=True, display_id=True)

    def draw(history: pd.DataFrame) -> None:
        ended = history["step"].iloc[-1] >= steps
        image = NOTHING if ended else {"image/png": learning_curve(history, steps)._repr_png_()}
        picture.update(image, raw=True)

    return draw
