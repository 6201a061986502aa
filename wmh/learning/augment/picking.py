"""Change only some rows of a tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch


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
