"""Losses: weighted cross-entropy and soft Dice, leaving out label 2 of the lesion labels."""

from __future__ import annotations

import torch
from torch.nn import functional

from wmh.study import LossSettings

LEFT_OUT = 255
"""Target value of pixels that take no part in a loss."""


def loss_of(
    logits: dict[str, torch.Tensor], labels: dict[str, torch.Tensor], settings: LossSettings
) -> torch.Tensor:
    """Sum over structures of cross-entropy and Dice loss, weighted as the study says.

    ``logits`` (B, classes, H, W) and ``labels`` (B, H, W) for each structure.
    """
    total = 0.0
    for structure, scores in logits.items():
        target = labels[structure].long()
        weight = torch.ones(scores.shape[1], device=scores.device)
        if structure == "lesions":
            target = torch.where(target == 2, LEFT_OUT, target)
            weight[1] = settings.lesion_class_weight
        else:
            weight[0] = settings.background_weight
        log_probability = scores.log_softmax(dim=1)
        entropy = functional.nll_loss(log_probability, target, weight, ignore_index=LEFT_OUT)
        dice = dice_loss(log_probability.exp(), target)
        total = total + settings.cross_entropy * entropy + settings.dice * dice
    return total


def dice_loss(probability: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """One minus the soft Dice coefficient, averaged over the foreground classes in the batch.

    Dice is taken over the whole batch and not slice by slice, so that slices without the structure
    do not pull a network towards predicting nothing. Classes that the batch does not hold are left
    out of the mean, unless it holds none. ``probability`` (B, classes, H, W), ``target`` (B, H, W).

    Overlaps are summed from each pixel's probability of its own class; no one-hot image of the
    truth, 37 times its size for the regions, is ever made.
    """
    counted = (target != LEFT_OUT).float()
    own = torch.where(target != LEFT_OUT, target, 0)
    correct = probability.gather(1, own[:, None])[:, 0] * counted  # (B, H, W)
    none = probability.new_zeros(probability.shape[1])
    overlap = none.scatter_add(0, own.flatten(), correct.flatten())
    truth = none.scatter_add(0, own.flatten(), counted.flatten().to(none.dtype))
    predicted = (probability * counted[:, None]).sum(dim=(0, 2, 3))
    dice = ((2 * overlap + smooth) / (predicted + truth + smooth))[1:]
    present = (truth > 0)[1:].to(dice.dtype)
    present = torch.where(present.sum() > 0, present, torch.ones_like(present))
    return 1 - (dice * present).sum() / present.sum()
