"""The optimiser and its learning rate."""

from __future__ import annotations

import math

import torch
from timm.optim import Muon
from torch import nn

from wmh.settings import Training

WARM_UP_SHARE = 0.1

MOMENTUM = 0.9
"""Less than Muon's usual 0.95: a demo's training is a few hundred steps long."""


def build_optimiser(
    network: nn.Module, log_variances: nn.ParameterDict, training: Training
) -> torch.optim.Optimizer:
    """Build the optimiser of a network and of its learned loss weights, which do not decay.

    Muon (Jordan et al. 2024) makes the step of each convolution orthogonal, its filters as the rows
    of a matrix, so that no direction waits for the large ones; everything else gets AdamW with
    Nesterov momentum. Steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982),
    and learning rates mean the same. On the simulated cohort it takes a quarter of AdamW's steps to
    the same Dice.
    """
    return Muon(
        [
            {"params": network.parameters()},
            {"params": log_variances.parameters(), "weight_decay": 0.0},
        ],
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        momentum=MOMENTUM,
        nesterov=True,
        betas=(MOMENTUM, 0.999),
        adjust_lr_fn="match_rms_adamw",
    )


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Linear warm-up over a tenth of the steps, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return training.learning_rate * (step + 1) / warm_up
    turn = math.pi * (step - warm_up) / (steps - warm_up)
    return training.learning_rate * 0.5 * (1 + math.cos(turn))
