"""The device on which a network computes, its precision, and its memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import torch

MEMORY_WORDS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""Words by which CUDA, PyTorch's CPU allocator, cuDNN and cuBLAS report that memory ran out."""

MEMORY_OF = {"cpu": "the machine's memory", "cuda": "the GPU's memory"}

SHARE_FOR_SLICES = 0.5
"""Share of the free memory that slices may take; the rest is for the network and its gradients."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of parameters of glibc's ``mallopt``, from its ``malloc.h``."""


class DeviceError(ValueError):
    """A device that this machine does not have. The message says which setting to change."""


def choose_device(wanted: str) -> torch.device:
    """The device that a study asks for; ``auto`` is a GPU if there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "compute.device is cuda, but PyTorch finds no GPU on this machine; set it to auto or "
            "cpu in the study's file"
        )
    return torch.device(wanted)


def autocast(device: torch.device, precision: str, dimensions: int) -> torch.autocast | nullcontext:
    """Mixed precision by the study's setting; ``auto`` takes bfloat16 where it is native.

    On a CPU, networks for volumes always compute in float32, because there the bfloat16 gradients
    of 3-D convolutions differ from run to run, and some are infinite.
    """
    if device.type == "cpu" and dimensions == 3:
        return nullcontext()
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else torch.cpu._is_avx512_bf16_supported()
    )
    if precision == "bfloat16" or (precision == "auto" and native):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor to a device; to a GPU through pinned memory, so that nothing waits for it."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def keep_freed_memory() -> bool:
    """Keep freed memory for the next tensor instead of returning it to the system.

    By default, blocks of more than some hundred kilobytes are returned as soon as they are free.
    The next operation requests them again, filled with zeros, which takes a tenth of a training
    step. Returns whether the C library accepted the settings; only glibc has them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, 2**25)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))


def fits(needed: int, device: torch.device) -> bool:
    """Whether slices of ``needed`` bytes may be kept in the device's memory."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = min([psutil.virtual_memory().available, *_left_to_group()])
    return needed <= SHARE_FOR_SLICES * free


def _left_to_group() -> list[int]:
    """Bytes that a container or batch system on Linux leaves to this process; empty if no limit."""
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
        folder = Path("/sys/fs/cgroup") / group
        most, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        return [int(most) - int(used)]
    except (OSError, ValueError):  # no such system, or the value is "max", which means no limit
        return []


@contextmanager
def when_out_of_memory(in_words: Callable[[], Exception]) -> Iterator[None]:
    """Raise ``in_words()`` instead of an error that says that memory ran out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise in_words() from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; some such errors have no type of their own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in MEMORY_WORDS)
