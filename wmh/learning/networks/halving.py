"""Images of any size for networks that halve them several times."""

from __future__ import annotations

import torch
from torch.nn import functional

Inside = tuple[object, ...]
"""Index of what was there before padding."""


def pad_to_multiple(images: torch.Tensor, multiple: int) -> tuple[torch.Tensor, Inside]:
    """Add background on all sides of (B, C, ...) so that every edge is a multiple of ``multiple``.

    Also returns where in the result the images lie, as an index.
    """
    edges = images.shape[2:]
    missing = [-edge % multiple for edge in edges]
    before = [count // 2 for count in missing]
    sides = [(low, count - low) for low, count in zip(before, missing, strict=True)]
    padding = [count for pair in reversed(sides) for count in pair]  # the last axis comes first
    inside = (..., *(slice(low, low + edge) for low, edge in zip(before, edges, strict=True)))
    return functional.pad(images, padding), inside
