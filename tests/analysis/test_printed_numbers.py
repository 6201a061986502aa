"""Every statistic is printed one way."""

import doctest

from wmh.analysis import printed_numbers
from wmh.analysis.printed_numbers import printed, signed, with_interval

MINUS = "\N{MINUS SIGN}"


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(printed_numbers).failed == 0


def test_units_decide_on_decimals():
    assert with_interval(8.26, 7.0, 9.94, "hd95_mm") == "8.3 [7.0, 9.9]"
    assert signed(-12.34, "volume_bias_ml") == f"{MINUS}12.3"
    assert printed(float("nan")) == signed(float("nan")) == "–"
