"""The command as a whole: what it says of warnings."""

from __future__ import annotations

import warnings

import pytest

from wmh import cli


def test_a_warning_of_the_package_is_a_line_and_others_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr("sys.argv", ["wmh", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    said = warnings.formatwarning("look", UserWarning, cli.__file__, 7)
    assert said == "wmh: look\n"
    assert "UserWarning: look" in warnings.formatwarning("look", UserWarning, "/torch.py", 7)
