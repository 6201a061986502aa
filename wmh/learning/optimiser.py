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
LEAST_ROWS, LONGEST = 4, 128
"""Fewest rows or columns of a matrix, and how many times more it may have of the other: one with
few directions has none to balance."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Jordan's polynomial: five times it brings all but the smallest singular values near 1."""


class Muon(torch.optim.Optimizer):
    """Muon for convolutions and other matrices, AdamW with Nesterov momentum for all else.

    Muon (Jordan et al. 2024) makes the step of each convolution orthogonal, its filters as the rows
    of a matrix, so that no direction waits for the large ones. Steps are scaled to the size of
    AdamW's (Liu et al. 2025, arXiv 2502.16982), and learning rates mean the same. On the simulated
    cohort it takes a quarter of AdamW's steps to the same Dice. timm's Muon takes seconds to
    import, PyTorch's takes matrices alone, and both take one at a time.
    """

    def __init__(self, groups: Iterable[dict], lr: float):
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients; what has none stays."""
        for group in self.param_groups:
            learned = [one for one in group["params"] if one.grad is not None]
            if not learned:
                continue
            gradients = [one.grad for one in learned]
            momenta = [self._kept(one, "momentum") for one in learned]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
            torch._foreach_mul_(learned, 1 - group["lr"] * group["weight_decay"])
            matrices, others = defaultdict(list), []
            for one, direction in zip(learned, ahead, strict=True):
                if is_matrix(one):
                    matrices[len(one), one[0].numel()].append((one, direction))
                else:
                    others.append((one, direction))
            for (rows, columns), alike in matrices.items():
                steps = orthogonal(torch.stack([d.reshape(rows, columns) for _, d in alike]))
                size = 0.2 * max(rows, columns) ** 0.5
                for (one, _), step in zip(alike, steps, strict=True):
                    one.add_(step.view_as(one), alpha=-group["lr"] * size)
            for one, direction in others:
                self._adam(one, direction, group["lr"])

    def _adam(self, one: torch.Tensor, direction: torch.Tensor, lr: float) -> None:
        """A step along a direction that is as large wherever the gradient's sign is steady."""
        square = self._kept(one, "square").mul_(SQUARE_MOMENTUM)
        square.addcmul_(one.grad, one.grad, value=1 - SQUARE_MOMENTUM)
        count = self.state[one]["count"] = self.state[one].get("count", 0) + 1
        # both means began at zero
        rise = math.sqrt(1 - SQUARE_MOMENTUM**count) / (1 - MOMENTUM**count)
        one.addcdiv_(direction, square.sqrt().add_(EPSILON), value=-lr * rise)

    def _kept(self, one: torch.Tensor, name: str) -> torch.Tensor:
        if name not in self.state[one]:
            self.state[one][name] = torch.zeros_like(one)
        return self.state[one][name]


def is_matrix(parameter: torch.Tensor) -> bool:
    """Whether a parameter (rows, ...) maps many values onto many: no bias, no depthwise filter."""
    if parameter.ndim < 2 or parameter.shape[1] == 1:
        return False
    few, many = sorted([len(parameter), parameter[0].numel()])
    return few >= LEAST_ROWS and many <= LONGEST * few


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices (n, rows, columns) with all singular values brought near 1.

    Newton-Schulz on the products of each matrix with itself, which are smaller.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    gram = matrices @ matrices.mT
    size = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp(min=EPSILON**2)
    gram = gram / size
    a, b, c = NEWTON_SCHULZ
    identity = torch.eye(gram.shape[1], device=gram.device)
    turned = identity / size.sqrt()
    for _ in range(5):
        stretch = a * identity + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        turned = stretch @ turned
        gram = stretch @ gram @ stretch
    return turned @ matrices


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
