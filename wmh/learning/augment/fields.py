"""Parts that intensities and movement share: smooth functions of space, changes of some rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch.nn import functional

from wmh.learning.augment.parameters import COARSE


@lru_cache(maxsize=64)
def cubic_weights(edge: int, device: torch.device) -> torch.Tensor:
    """Weight (edge, COARSE) of each control point at each pixel: cubic interpolation."""
    points = torch.eye(COARSE)[:, None, :, None]  # one image for each control point
    weights = functional.interpolate(points, (edge, 1), mode="bicubic", align_corners=True)
    return weights[:, 0, :, 0].T.contiguous().to(device)


@lru_cache(maxsize=64)
def linear_and_cubic_weights(edge: int, device: torch.device) -> torch.Tensor:
    """Beside the cubic weights, each pixel's coordinate from -1 to 1, and 1: (edge, COARSE + 2)."""
    coordinate = (2 * torch.arange(edge, device=device) + 1) / edge - 1
    columns = [coordinate[:, None], torch.ones(edge, 1, device=device)]
    return torch.cat([cubic_weights(edge, device), *columns], dim=1)


def over_space(coefficients: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Sum the functions of space that ``coefficients`` (B, C, n, ...) weigh: (B, C, *space).

    ``weights`` (edge, n) holds the n functions of each axis.
    """
    for along in weights:  # each turns the first axis of coefficients into a last axis of pixels
        coefficients = torch.tensordot(coefficients, along, dims=([2], [1]))
    return coefficients


def change_some(
    rows: torch.Tensor,
    changed: torch.Tensor,
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    """Replace, in place, the rows where ``changed`` (N,) by ``change(rows, their numbers)``.

    ``changed`` is on the CPU, where it was drawn, so that a GPU never stops to say which they are.
    """
    numbers = changed.nonzero()[:, 0]
    if len(numbers):
        there = numbers.to(rows.device, non_blocking=True)
        rows.index_copy_(0, there, change(rows.index_select(0, there), numbers))
