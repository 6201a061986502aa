"""Losses: cross-entropy, soft Dice and skeleton recall, without pixels of lesion label 2.

Labels may be slices (B, H, W), volumes (B, X, Y, Z) or rows of pixels (pixels,).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from wmh.settings import LossSettings

LEFT_OUT = 255
"""Label of pixels that do not count in a loss."""

TINY = 1e-6
"""Less than any sum of weights, so that a batch without known labels gives 0 and not NaN."""

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
    """The loss of one structure: the weighted sum of its terms. It is 0 if no label is known."""
    scores, target = pixels(scores), labels[structure].flatten().long()
    weight = torch.ones(scores.shape[1], device=scores.device, dtype=scores.dtype)
    if structure == "lesions":
        target = torch.where(target == 2, LEFT_OUT, target)
        weight[1] = settings.lesion_class_weight
    else:
        weight[0] = settings.background_weight
    known = target != LEFT_OUT
    own, counted = torch.where(known, target, 0), known.to(scores.dtype)
    log_own, total = OwnAndTotal.apply(scores, own, counted)
    weights = weight[own] * counted
    if structure == "regions" and settings.lesions_in_regions != 1:
        is_lesion = labels["lesions"].flatten() == 1
        weights = torch.where(is_lesion, settings.lesions_in_regions * weights, weights)
    entropy = -(log_own * weights).sum() / weights.sum().clamp(min=TINY)
    correct = log_own.exp() * counted

    def by_class(values: torch.Tensor) -> torch.Tensor:
        """Sum of values (pixels,) over the pixels of each class."""
        return torch.zeros_like(total).scatter_add(0, own, values)

    dice = dice_loss(by_class(correct), total, by_class(counted))
    loss = settings.cross_entropy * entropy + settings.dice * dice
    if settings.skeleton_recall:
        # a tube lies inside its class, so that its pixels' own class is that of the tube
        on_tube = labels[structure + SKELETON].flatten() > 0
        recall = skeleton_recall_loss(by_class(correct * on_tube), by_class(counted * on_tube))
        loss = loss + settings.skeleton_recall * recall
    return loss


class OwnAndTotal(torch.autograd.Function):
    """All that the terms of a loss need of the logits, with one pass for their gradient.

    From ``scores`` (pixels, classes), each pixel's ``own`` class (pixels,) and ``counted``
    (pixels,), 1 or 0, it makes the log probability of each pixel's own class (pixels,) and the sum
    of each class's probability over the pixels that count (classes,). Neither needs a one-hot
    image of the truth, which would be 37 times as large for the regions.
    """

    @staticmethod
    def forward(ctx, scores: torch.Tensor, own: torch.Tensor, counted: torch.Tensor) -> tuple:
        log_probability = scores.log_softmax(dim=1)
        log_own = log_probability.gather(1, own[:, None])[:, 0]
        probability = log_probability.exp_()
        ctx.save_for_backward(probability, own, counted)
        return log_own, counted @ probability

    @staticmethod
    def backward(ctx, by_own: torch.Tensor, by_total: torch.Tensor) -> tuple:
        """Chain rule of the softmax p: dp_k/ds_j = p_k (1[j = k] - p_j)."""
        probability, own, counted = ctx.saved_tensors
        same_for_all = -by_own - counted * (probability @ by_total)
        gradient = torch.addmm(same_for_all[:, None], counted[:, None], by_total[None])
        gradient.mul_(probability).scatter_add_(1, own[:, None], by_own[:, None])
        return gradient, None, None


def dice_loss(
    overlap: torch.Tensor, predicted: torch.Tensor, truth: torch.Tensor, smooth: float = 1.0
) -> torch.Tensor:
    """One minus the soft Dice coefficient, averaged over the foreground classes in the batch.

    Dice is computed over the whole batch and not for each slice, so that slices without the
    structure do not teach a network to predict nothing. Classes that are not in the batch are left
    out of the mean, unless it has none. All three hold a sum for each class (classes,): its
    probability on its own pixels, its probability everywhere, and the number of its pixels.
    """
    dice = (2 * overlap + smooth) / (predicted + truth + smooth)
    return 1 - _mean_of_present(dice, truth)


def skeleton_recall_loss(
    overlap: torch.Tensor, length: torch.Tensor, smooth: float = 1.0
) -> torch.Tensor:
    """One minus the soft recall of the truth's tubed skeleton, averaged over foreground classes.

    As in :func:`dice_loss`, it is computed over the whole batch and its classes. ``overlap`` is
    each class's summed probability on its skeleton, ``length`` the number of the skeleton's pixels:
    (classes,) each.

    Source: Kirchhoff et al. 2024 (arXiv 2404.03010), eq. 2; smoothed as in its reference code.
    """
    return 1 - _mean_of_present((overlap + smooth) / (length + smooth), length)


def _mean_of_present(scores: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Mean score of the foreground classes in the batch, or of all classes if it has none."""
    present = (sizes > 0)[1:].to(scores.dtype)
    present = torch.where(present.sum() > 0, present, torch.ones_like(present))
    return (scores[1:] * present).sum() / present.sum()
