"""How many cores there are to share out over subjects."""

from __future__ import annotations

import os

CORES = "WMH_CORES"
"""Environment variable with the cores that a stage was given, where it was not given all."""


def cores_here() -> int:
    """How many subjects to work on at a time: as many as there are cores for this process."""
    return int(os.environ.get(CORES) or len(os.sched_getaffinity(0)))
