"""Cores to share out over subjects, and processes that use them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

from wmh.study import StudyError

CORES = "WMH_CORES"
"""Environment variable with the cores that a stage was given, where it was not given all."""


def cores_here() -> int:
    """Return how many subjects to work on at a time: as many as there are cores for this process.

    Raises :class:`StudyError` where ``WMH_CORES`` is no number of cores.
    """
    given = os.environ.get(CORES)
    if not given:
        return len(os.sched_getaffinity(0))
    if not given.isdecimal() or int(given) == 0:
        raise StudyError(f"{CORES} is {given!r}. Set it to a number of cores, 1 or more")
    return int(given)


def processes(count: int, start: str = "spawn") -> ProcessPoolExecutor:
    """A pool of processes of which none outlives this one, however it ends.

    ``start`` is ``spawn``, or ``fork`` where they share what this one has prepared.
    """
    context = multiprocessing.get_context(start)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Without this, a worker whose parent was killed waits for its next task for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
