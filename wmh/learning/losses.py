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
        weight = None
        if structure == "lesions":
            target = torch.where(target == 2, LEFT_OUT, target)
            weight = torch.tensor([1.0, settings.lesion_class_weight], device=scores.device)
        entropy = functional.cross_entropy(scores, target, weight=weight, ignore_index=LEFT_OUT)
        total = total + settings.cross_entropy * entropy + settings.dice * dice_loss(scores, target)
    return total


def dice_loss(logits: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """One minus the soft Dice coefficient, averaged over the foreground classes in the batch.

    Dice is taken over the whole batch and not slice by slice, so that slices without the structure
    do not pull a network towards predicting nothing. Classes that the batch does not hold are left
    out of the mean, unless it holds none. ``logits`` (B, classes, H, W), ``target`` (B, H, W).
    """
    counted = (target != LEFT_OUT)[:, None]
    probability = logits.softmax(dim=1) * counted
    classes = logits.shape[1]
    truth = functional.one_hot(target.where(target != LEFT_OUT, 0), classes).movedim(-1, 1)
    truth = truth * counted
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    size = (probability + truth).sum(dim=(0, 2, 3))
    dice = ((2 * overlap + smooth) / (size + smooth))[1:]
    present = (truth.sum(dim=(0, 2, 3)) > 0)[1:].float()
    present = torch.where(present.sum() > 0, present, torch.ones_like(present))
    return 1 - (dice * present).sum() / present.sum()
