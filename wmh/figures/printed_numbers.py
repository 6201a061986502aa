"""How a number is printed: one way for each statistic, in notebooks, figures and pages alike."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from wmh.figures.style import MINUS, configuration_name

COARSE = ("mm", "percent", "ml")
"""Measures whose name ends so are printed with one decimal, all others with three."""


def printed(value: float, metric: str = "dice") -> str:
    """A value of a measure; ``–`` for none.

    >>> printed(0.71239), printed(8.276, "hd95_mm")
    ('0.712', '8.3')
    """
    if np.isnan(value):
        return "–"
    return f"{value:.{_decimals(metric)}f}".replace("-", MINUS)


def signed(value: float, metric: str = "dice") -> str:
    """A difference with its sign; what rounds to nothing has none.

    >>> signed(0.0217), signed(-0.00004)
    ('+0.022', '0.000')
    """
    if np.isnan(value):
        return "–"
    text = f"{value:+.{_decimals(metric)}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def with_interval(
    value: float, low: float, high: float, metric: str = "dice", difference: bool = False
) -> str:
    """An estimate with its interval.

    >>> with_interval(0.7124, 0.6801, 0.7399), with_interval(0.7, 0.6, float("nan"))
    ('0.712 [0.680, 0.740]', '0.700')
    """
    write = signed if difference else printed
    if np.isnan(low) or np.isnan(high):
        return write(value, metric)
    return f"{write(value, metric)} [{write(low, metric)}, {write(high, metric)}]"


def p_text(p: float) -> str:
    """A p-value as printed: ``p < 0.001``, ``p = 0.012``, ``p = 0.40``."""
    if np.isnan(p):
        return "not testable"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def readable(text: str) -> str:
    """A text with the printed names of the configurations it mentions.

    >>> readable("lesion Dice: flair_t1 (FLAIR+T1) minus flair (FLAIR)")
    'lesion Dice: Concatenated minus FLAIR'
    """
    named = re.sub(
        r"(\w+) \((FLAIR\+T1|FLAIR|T1)\)",
        lambda found: configuration_name(found[1], found[2]),
        text,
    )
    return named[0].upper() + named[1:] if named.startswith("regional") else named


def is_difference(part: NamedTuple | pd.Series) -> bool:
    """Whether a part of a claim is a difference, printed with its sign, or an agreement (ICC).

    Differences are tested; of an agreement the interval is the test.
    """
    return not np.isnan(part.p_holm)


def effect_text(part: NamedTuple | pd.Series) -> str:
    """The effect of a part of a claim with its interval."""
    numbers = (part.mean_difference, part.ci_low, part.ci_high)
    return with_interval(*numbers, difference=is_difference(part))


def _decimals(metric: str) -> int:
    return 1 if metric.endswith(COARSE) else 3
