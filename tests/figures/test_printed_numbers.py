"""Every statistic is printed one way."""

import doctest

import numpy as np
import pytest

from wmh.figures import printed_numbers
from wmh.figures.printed_numbers import p_text, printed, readable, signed, with_interval

MINUS = "\N{MINUS SIGN}"


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(printed_numbers).failed == 0


def test_units_decide_on_decimals():
    assert with_interval(8.26, 7.0, 9.94, "hd95_mm") == "8.3 [7.0, 9.9]"
    assert signed(-12.34, "volume_bias_ml") == f"{MINUS}12.3"
    assert printed(float("nan")) == signed(float("nan")) == "–"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "p < 0.001"), (0.0123, "p = 0.012"), (0.4, "p = 0.40"), (np.nan, "not testable")],
)
def test_p_values_are_printed_one_way(p, text):
    assert p_text(p) == text


def test_comparisons_are_printed_with_the_names_of_the_figures():
    text = readable("lesion Dice: interchangeable (T1) minus flair_t1 (T1)")
    assert text == "lesion Dice: Interchangeable, T1 only minus Concatenated, FLAIR blank"


def test_effects_that_round_to_nothing_have_no_sign():
    assert [signed(value) for value in (0.0217, -0.0217, -0.0001)] == [
        "+0.022",
        "\N{MINUS SIGN}0.022",
        "0.000",
    ]
