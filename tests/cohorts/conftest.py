"""What the tests of the cohorts share."""

from __future__ import annotations

from types import SimpleNamespace

import pooch.core
import pytest

from tests.cohorts.loopback import serving
from wmh.cohorts import fetch


@pytest.fixture
def server(monkeypatch):
    """A badly behaved server on this machine, which is asked again three times, without pauses."""
    monkeypatch.setattr(fetch, "RETRIES", 3)
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))
    with serving() as loopback:
        yield loopback
