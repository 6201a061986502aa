"""The number of cores to use, and processes that use them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

from wmh.study import StudyError

CORES = "WMH_CORES"
"""Environment variable that limits the number of cores of a stage."""


def cores_here() -> int:
    """Number of cores that this process may use, and so of subjects to work on at a time.

    Raises :class:`StudyError` where ``WMH_CORES`` is not a number of at least 1.
    """
    given = os.environ.get(CORES)
    if not given:
        return len(os.sched_getaffinity(0))
    if not given.isdecimal() or int(given) == 0:
        raise StudyError(
            f"The environment variable {CORES} is {given!r}. Set it to a number of cores, 1 or more"
        )
    return int(given)


def processes(count: int, start: str = "spawn") -> ProcessPoolExecutor:
    """A pool of worker processes that end when this process ends, even if it is killed.

    ``start`` is ``spawn``, or ``fork`` where the workers share data that this process has prepared.
    """
    context = multiprocessing.get_context(start)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this worker when its parent ends; otherwise it would wait for its next task for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
