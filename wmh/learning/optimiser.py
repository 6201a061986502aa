"""The optimiser and its learning rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from wmh.settings import Training

WARM_UP_SHARE = 0.1

MOMENTUM, SQUARE_MOMENTUM = 0.9, 0.999
"""Of the gradient, less than Muon's usual 0.95, since a demo's training is a few hundred steps
long; and of its square."""

EPSILON = 1e-7
"""Keeps a division by what is zero from failing."""
LEAST_ROWS, LONGEST = 4, 128
"""Fewest rows or columns of a matrix, and how many times more it may have of the other: one with
few directions has none to balance."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's polynomial: of a matrix, its cube and its fifth power."""

Directions = list[tuple[torch.Tensor, torch.Tensor]]
"""What is learned, each with the direction of its step."""


class Muon(torch.optim.Optimizer):
    """Muon for convolutions and other matrices, AdamW with Nesterov momentum for all else.

    Muon (Jordan et al. 2024) makes the step of each convolution orthogonal, its filters as the rows
    of a matrix, so that no direction waits for the large ones. Steps are scaled to the size of
    AdamW's (Liu et al. 2025, arXiv 2502.16982), and learning rates mean the same. On the simulated
    cohort it takes a quarter of AdamW's steps to the same Dice. timm's Muon takes seconds to
    import, PyTorch's takes matrices alone, and both take one after the other.
    """

    def __init__(self, groups: Iterable[dict], lr: float):
        super().__init__(groups, {"lr": lr, "taken": 0})

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients; what has none stays."""
        for group in self.param_groups:
            learned = [one for one in group["params"] if one.grad is not None]
            if not learned:
                continue
            group["taken"] += 1
            gradients = [one.grad for one in learned]
            momenta = self._kept("momentum", learned)
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
            torch._foreach_mul_(learned, 1 - group["lr"] * group["weight_decay"])
            directions = list(zip(learned, ahead, strict=True))
            _step_matrices([pair for pair in directions if is_matrix(pair[0])], group)
            self._step_others([pair for pair in directions if not is_matrix(pair[0])], group)

    def _step_others(self, directions: Directions, group: dict) -> None:
        """Steps that are as large wherever the gradient's sign is steady, as AdamW's are."""
        if not directions:
            return
        learned, ahead = zip(*directions, strict=True)
        squares, gradients = self._kept("square", learned), [one.grad for one in learned]
        torch._foreach_mul_(squares, SQUARE_MOMENTUM)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - SQUARE_MOMENTUM)
        spreads = torch._foreach_sqrt(squares)
        torch._foreach_add_(spreads, EPSILON)
        # both means began at zero
        rise = math.sqrt(1 - SQUARE_MOMENTUM ** group["taken"]) / (1 - MOMENTUM ** group["taken"])
        torch._foreach_addcdiv_(learned, ahead, spreads, -group["lr"] * rise)

    def _kept(self, name: str, learned: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        for one in learned:
            if name not in self.state[one]:
                self.state[one][name] = torch.zeros_like(one)
        return [self.state[one][name] for one in learned]


def _step_matrices(directions: Directions, group: dict) -> None:
    """Steps with all singular values near 1; matrices with as many rows go together."""
    by_rows = defaultdict(list)
    for one, direction in directions:
        matrix = direction.reshape(len(one), -1)
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
        by_rows[len(wide)].append((one, wide))
    for alike in by_rows.values():
        turns = inverse_roots(torch.stack([wide @ wide.mT for _, wide in alike]))
        for (one, wide), turn in zip(alike, turns, strict=True):
            step = turn @ wide
            step = step if len(step) == len(one) else step.mT
            size = 0.2 * max(step.shape) ** 0.5
            one.add_(step.reshape(one.shape), alpha=-group["lr"] * size)


def is_matrix(parameter: torch.Tensor) -> bool:
    """Tell whether a parameter maps many values onto many: no bias, no depthwise filter."""
    if parameter.ndim < 2 or parameter.shape[1] == 1:
        return False
    few, many = sorted([len(parameter), parameter[0].numel()])
    return few >= LEAST_ROWS and many <= LONGEST * few


def inverse_roots(squares: torch.Tensor) -> torch.Tensor:
    """Roughly the inverse square roots of A Aᵀ (n, rows, rows), by Newton-Schulz.

    Times A they bring all but its smallest singular values between 0.6 and 1.2.
    """
    size = squares.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp(min=EPSILON**2)
    left = squares / size
    a, b, c = NEWTON_SCHULZ
    roots = torch.eye(squares.shape[1], device=squares.device) / size.sqrt()
    for _ in range(5):
        stretch = torch.baddbmm(left, left, left, beta=b, alpha=c)
        roots = torch.baddbmm(roots, stretch, roots, beta=a)
        left = torch.baddbmm(left, stretch, left, beta=a)
        left = torch.baddbmm(left, left, stretch, beta=a)
    return roots


def build_optimiser(
    network: nn.Module, log_variances: nn.ParameterDict, training: Training
) -> torch.optim.Optimizer:
    """Build the optimiser of a network and of its learned loss weights, which do not decay."""
    return Muon(
        [
            {"params": network.parameters(), "weight_decay": training.weight_decay},
            {"params": log_variances.parameters(), "weight_decay": 0.0},
        ],
        lr=training.learning_rate,
    )


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Linear warm-up over a tenth of the steps, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return training.learning_rate * (step + 1) / warm_up
    turn = math.pi * (step - warm_up) / (steps - warm_up)
    return training.learning_rate * 0.5 * (1 + math.cos(turn))
