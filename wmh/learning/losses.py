"""Losses: cross-entropy, soft Dice and skeleton recall, without pixels of lesion label 2.

Every term accepts slices (B, H, W), volumes (B, X, Y, Z) and rows of pixels (pixels,).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch.nn import functional

from wmh.settings import LossSettings

LEFT_OUT = 255
"""Label of pixels that do not count in a loss."""

SKELETON = "_skeleton"
"""Ending of the name of a structure's tubed (thickened) skeleton, stored beside its labels."""


def pixels(scores: torch.Tensor) -> torch.Tensor:
    """Scores (B, classes, ...) as one row per pixel, (pixels, classes); such rows stay unchanged.

    Scores in channels-last memory layout are not copied.
    """
    return scores.movedim(1, -1).flatten(0, -2)


def labels_for(structures: Iterable[str], settings: LossSettings) -> tuple[str, ...]:
    """Structures whose labels a loss needs: its own, and lesions if these weigh in the regions."""
    needed = tuple(structures)
    by_lesion = settings.lesions_in_regions != 1 and "lesions" not in needed
    return (*needed, "lesions") if by_lesion else needed


def loss_of(
    logits: Mapping[str, torch.Tensor],
    labels: Mapping[str, torch.Tensor],
    settings: LossSettings,
    log_variances: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Sum of the structures' losses, with the study's weights or with learned ones.

    ``logits`` (B, classes, ...) and ``labels`` (B, ...) by structure. ``labels`` also holds
    ``lesions_skeleton`` and ``regions_skeleton`` if skeleton recall is used, and the lesions if
    they have a weight in the regions.

    With ``log_variances`` (a scalar s per structure) a structure's loss is multiplied by
    ``exp(-s)``, and ``s / 2`` is added: homoscedastic uncertainty (Kendall et al. 2018, eq. 10,
    with s = log sigma squared).
    """
    losses = {
        structure: structure_loss(structure, scores, labels, settings)
        for structure, scores in logits.items()
    }
    if log_variances:
        return sum(
            torch.exp(-log_variances[structure]) * loss + log_variances[structure] / 2
            for structure, loss in losses.items()
        )
    return sum(getattr(settings, structure) * loss for structure, loss in losses.items())


def structure_loss(
    structure: str,
    scores: torch.Tensor,
    labels: Mapping[str, torch.Tensor],
    settings: LossSettings,
) -> torch.Tensor:
    """The loss of one structure: the weighted sum of its terms."""
    scores, target = pixels(scores), labels[structure].flatten().long()
    weight = torch.ones(scores.shape[1], device=scores.device, dtype=scores.dtype)
    if structure == "lesions":
        target = torch.where(target == 2, LEFT_OUT, target)
        weight[1] = settings.lesion_class_weight
    else:
        weight[0] = settings.background_weight
    log_probability = scores.log_softmax(dim=1)
    probability = log_probability.exp()
    nothing = (target == LEFT_OUT).all()  # no pixel has a known label: the loss is 0, not NaN
    if structure == "regions" and settings.lesions_in_regions != 1:
        known = target != LEFT_OUT
        own = torch.where(known, target, 0)
        counts = weight[own] * known
        is_lesion = labels["lesions"].flatten() == 1
        counts = torch.where(is_lesion, settings.lesions_in_regions * counts, counts)
        entropy = -(log_probability.gather(1, own[:, None])[:, 0] * counts).sum()
        entropy = entropy / torch.where(nothing, 1, counts.sum())
    else:
        known = torch.where(nothing, 0, target)
        entropy = functional.nll_loss(log_probability, known, weight, ignore_index=LEFT_OUT)
        entropy = torch.where(nothing, 0, entropy)
    loss = settings.cross_entropy * entropy + settings.dice * dice_loss(probability, target)
    if settings.skeleton_recall:
        skeleton = labels[structure + SKELETON].flatten().long()
        loss = loss + settings.skeleton_recall * skeleton_recall_loss(probability, skeleton)
    return loss


def dice_loss(probability: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """One minus the soft Dice coefficient, averaged over the foreground classes in the batch.

    Dice is computed over the whole batch and not for each slice, so that slices without the
    structure do not teach a network to predict nothing. Classes that are not in the batch are left
    out of the mean, unless it has none. ``probability`` (B, classes, ...), ``target`` (B, ...).

    The overlap sums each pixel's probability of its true class. This avoids a one-hot image of the
    truth, which would be 37 times as large for the regions.
    """
    probability, target = pixels(probability), target.flatten()
    counted = (target != LEFT_OUT).to(probability.dtype)
    own = torch.where(target != LEFT_OUT, target, 0)
    overlap, truth = _overlap(probability, own, counted)
    predicted = counted @ probability
    dice = (2 * overlap + smooth) / (predicted + truth + smooth)
    return 1 - _mean_of_present(dice, truth)


def skeleton_recall_loss(
    probability: torch.Tensor, skeleton: torch.Tensor, smooth: float = 1.0
) -> torch.Tensor:
    """One minus the soft recall of the truth's tubed skeleton, averaged over foreground classes.

    As in :func:`dice_loss`, it is computed over the whole batch and its classes. ``probability``
    (B, classes, ...); ``skeleton`` (B, ...) holds a class on its skeleton and 0 elsewhere.

    Source: Kirchhoff et al. 2024 (arXiv 2404.03010), eq. 2; smoothed as in its reference code.
    """
    probability, skeleton = pixels(probability), skeleton.flatten()
    on_skeleton = (skeleton > 0).to(probability.dtype)
    overlap, length = _overlap(probability, skeleton, on_skeleton)
    return 1 - _mean_of_present((overlap + smooth) / (length + smooth), length)


def _overlap(
    probability: torch.Tensor, own: torch.Tensor, counted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each class's summed probability on its own pixels, and their number: (classes,) each.

    ``probability`` (pixels, classes); ``own`` (pixels,) is each pixel's class; ``counted``
    (pixels,) is 1 for pixels that count, else 0.
    """
    correct = probability.gather(1, own[:, None])[:, 0] * counted
    none = probability.new_zeros(probability.shape[1])
    return none.scatter_add(0, own, correct), none.scatter_add(0, own, counted)


def _mean_of_present(scores: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Mean score of the foreground classes in the batch, or of all classes if it has none."""
    present = (sizes > 0)[1:].to(scores.dtype)
    present = torch.where(present.sum() > 0, present, torch.ones_like(present))
    return (scores[1:] * present).sum() / present.sum()
