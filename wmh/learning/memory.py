"""How much memory there is, and how the process holds on to it while it computes on the CPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import psutil
import torch

SHARE_FOR_SLICES = 0.5
"""Of the free memory; the rest is for the network and its gradients."""

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


def fits(needed: int, device: torch.device) -> bool:
    """Whether slices of so many bytes may lie in the device's memory."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = min([psutil.virtual_memory().available, *_left_to_group()])
    return needed <= SHARE_FOR_SLICES * free


def _left_to_group() -> list[int]:
    """What a container or a batch system leaves to this process on Linux, where it sets a limit."""
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
        folder = Path("/sys/fs/cgroup") / group
        most, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        return [int(most) - int(used)]
    except (OSError, ValueError):  # no such system, or "max": no limit
        return []
