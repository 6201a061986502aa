"""Failures of the machine, told in words that name the setting to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

MEMORY_WORDS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""How CUDA, PyTorch's CPU allocator, and cuDNN and cuBLAS say that memory ran out."""

MEMORY_OF = {"cpu": "the machine's memory", "cuda": "the GPU's memory"}


@contextmanager
def when_out_of_memory(in_words: Callable[[], Exception]) -> Iterator[None]:
    """Raise ``in_words()`` when the memory of a device or of the machine runs out; else nothing."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise in_words() from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; not all that do are of a type of their own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in MEMORY_WORDS)
