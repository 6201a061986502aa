"""Whether a person's images are what they are said to be, by tests that a real scan passes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import numpy as np

from wmh.images import Image


def notices(images: Mapping[str, Image]) -> list[str]:
    """What looks wrong with a person's images (by modality, as given), a sentence each.

    Nothing is said of images that look as they should.
    """
    if {"FLAIR", "T1"} <= set(images):
        flair, t1 = images["FLAIR"], images["T1"]
        if np.array_equal(flair.data, t1.data):
            return [f"{t1.path}: the T1 holds the same picture as the FLAIR, {flair.path}"]
    return []


def say(notices: Iterable[str]) -> None:
    """Print notices where errors go, a line each."""
    for notice in notices:
        print(f"wmh: {notice}", file=sys.stderr)
