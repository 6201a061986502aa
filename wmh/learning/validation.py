"""Measures of a network on the validation subjects during training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wmh.atlas.regions import REGION_LABELS
from wmh.learning.cut import centred
from wmh.learning.devices import autocast, send
from wmh.learning.inputs import InputConfiguration, show
from wmh.learning.losses import labels_for, loss_of
from wmh.learning.slices import Slices
from wmh.learning.volumes import logits_of_slices
from wmh.settings import Training


@torch.inference_mode()
def validation_scores(
    network: nn.Module, slices: Slices, configuration: InputConfiguration, training: Training
) -> dict[str, float]:
    """Loss and Dice on the validation subjects, with views averaged as at inference.

    Dice is computed over all slices of a subject and averaged over subjects (and over the 34
    regions). A network that predicts both structures gets the mean of both.
    """
    network.eval()
    counts: dict[str, list[torch.Tensor]] = {}
    losses = []
    for person, ((first, end), window) in enumerate(
        zip(slices.spans.tolist(), slices.windows, strict=True)
    ):
        logits = logits_of_person(network, slices, person, configuration, training)
        needed = slices.labels(labels_for(logits, training.loss), slice(first, end))
        labels = {k: send(centred(stack, window), slices.device) for k, stack in needed.items()}
        losses.append(loss_of(logits, labels, training.loss) * (end - first))
        for structure, scores in logits.items():
            table = _overlap(scores.max(dim=1).indices, labels[structure], scores.shape[1])
            counts.setdefault(structure, []).append(table)
    network.train()
    dice = {
        structure: _mean_dice(torch.stack(tables), structure)
        for structure, tables in counts.items()
    }
    scores = {f"validation_{k}_dice": v for k, v in dice.items()} if len(dice) > 1 else {}
    return {
        "validation_loss": float(torch.stack(losses).sum()) / len(slices),
        "validation_dice": float(np.mean(list(dice.values()))),
        **scores,
    }


def logits_of_person(
    network: nn.Module,
    slices: Slices,
    person: int,
    configuration: InputConfiguration,
    training: Training,
) -> dict[str, torch.Tensor]:
    """Logits (N, classes, H, W) of one person's slices in their own window, as at inference."""
    first, end = slices.spans[person].tolist()
    images = centred(slices.images[slice(first, end)], slices.windows[person])
    images = send(images, slices.device).float()
    depth_mm = send(slices.depth_mm[first:end], slices.device)
    with autocast(slices.device, training.precision, training.network.dimensions):
        answers = [
            logits_of_slices(network, show(images, view), depth_mm, training.network)
            for view in configuration.views_for(("FLAIR", "T1"))
        ]
    return {k: mean_prediction([answer[k].float() for answer in answers]) for k in answers[0]}


def mean_prediction(logits: list[torch.Tensor]) -> torch.Tensor:
    """Logits (N, classes, ...) whose softmax is the mean of the given ones' softmax."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([one.log_softmax(dim=1) for one in logits]).logsumexp(dim=0)


@torch.inference_mode()
def fullest_slice(
    network: nn.Module,
    slices: Slices,
    structure: str,
    configuration: InputConfiguration,
    training: Training,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The slice with most of a structure: its images (2, H, W), truth and prediction (H, W)."""
    number = int(slices.labelled[structure].argmax())
    person = int(slices.subject[number])
    first, window = int(slices.spans[person, 0]), slices.windows[person]
    network.eval()
    logits = logits_of_person(network, slices, person, configuration, training)[structure]
    network.train()
    one = slice(number, number + 1)
    truth = slices.labels([structure], one)[structure]
    return (
        centred(slices.images[one], window)[0].float().cpu(),
        centred(truth, window)[0].cpu(),
        logits[number - first].argmax(dim=0).cpu(),
    )


def _overlap(prediction: torch.Tensor, truth: torch.Tensor, classes: int) -> torch.Tensor:
    """For each foreground class, the pixels in the overlap and the sum of both masks' pixels.

    Returns (classes - 1, 2). Pixels of lesion label 2 do not count.
    """
    known = truth < classes
    truth, prediction = truth[known].long(), prediction[known]
    both, *sizes = (
        torch.bincount(labels, minlength=classes)
        for labels in (truth[truth == prediction], truth, prediction)
    )
    return torch.stack([both, sum(sizes)], dim=1)[1:].float()


def _mean_dice(counts: torch.Tensor, structure: str) -> float:
    """Mean Dice over subjects and classes from (subjects, classes, 2), without absent classes.

    It is 1 if truth and prediction hold no class at all: they agree, and NaN could not be compared.
    """
    if structure == "regions":
        counts = counts[:, : len(REGION_LABELS)]  # the two rest labels do not count
    both, total = counts[..., 0], counts[..., 1]
    there = total > 0
    return float((2 * both / total)[there].mean()) if there.any() else 1.0
