"""How the process holds on to memory while it computes on the CPU."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``, as numbered in its ``malloc.h``."""


def keep_freed_memory() -> bool:
    """Keep freed memory for the next tensor instead of giving it back to the system.

    By default blocks of more than some hundred kilobytes go back as soon as they are free, and are
    asked for and filled with zeros again at the next operation: a tenth of a training step's time.
    Says whether the C library took the settings; others than glibc have none and stay as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, 2**25)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))
