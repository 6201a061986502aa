"""What the tests of the cohorts share."""

from __future__ import annotations

import pytest

from tests.cohorts.loopback import serving


@pytest.fixture
def server():
    """A badly behaved server on this machine."""
    with serving() as loopback:
        yield loopback
