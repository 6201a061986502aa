"""How many cores there are to share out over subjects."""

from __future__ import annotations

import os

from wmh.study import StudyError

CORES = "WMH_CORES"
"""Environment variable with the cores that a stage was given, where it was not given all."""


def cores_here() -> int:
    """How many subjects to work on at a time: as many as there are cores for this process.

    Raises :class:`StudyError` where ``WMH_CORES`` is no number of cores.
    """
    given = os.environ.get(CORES)
    if not given:
        return len(os.sched_getaffinity(0))
    if not given.isdecimal() or int(given) == 0:
        raise StudyError(f"{CORES} is {given!r}. Set it to a number of cores, 1 or more")
    return int(given)
