"""Batch normalisation by the person at hand, and by which of the person's slices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

MIDDLE_MM = (10.0, 120.0)
"""Depths below the crown at which a head's middle begins and ends: most of the brain, no neck."""

Chosen = slice | torch.Tensor
"""Some slices of a batch, as an index."""

_chosen: ContextVar[Chosen | None] = ContextVar("chosen", default=None)  # of each thread


class PersonNorm(nn.BatchNorm2d):
    """Normalises by the slices of the batch, or by those that :func:`statistics_from` names."""

    def __init__(self, layer: nn.BatchNorm2d):
        super().__init__(layer.num_features, layer.eps, track_running_stats=False)
        self.weight, self.bias = layer.weight, layer.bias
        # timm's layers also hold what comes after them
        self.drop = getattr(layer, "drop", nn.Identity())
        self.act = getattr(layer, "act", nn.Identity())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From features (B, C, H, W) to the same, normalised."""
        chosen = _chosen.get()
        if chosen is None:
            return self.act(self.drop(super().forward(features)))
        seen = features[chosen]
        mean, variance = torch.zeros_like(self.bias), torch.ones_like(self.bias)
        functional.batch_norm(seen, mean, variance, training=True, momentum=1.0)  # fills the two
        variance *= 1 - len(self.bias) / seen.numel()  # which count one value less than there are
        normalised = functional.batch_norm(
            features, mean, variance, self.weight, self.bias, training=False, eps=self.eps
        )
        return self.act(self.drop(normalised))


@contextmanager
def statistics_from(chosen: Chosen) -> Iterator[None]:
    """Meanwhile networks normalise all slices of a batch by those chosen. No gradients."""
    before = _chosen.set(chosen)
    try:
        yield
    finally:
        _chosen.reset(before)


def middle_of_head(depth_mm: torch.Tensor, shown: torch.Tensor | None = None) -> Chosen:
    """Return the slices that lie in the middle of the head, in order; all of them where none does.

    Of those in the middle only the ones ``shown`` (N,) as all others are, without a blank channel.

    Most slices that a network learns from lie there, because lesions do. Crown and neck hold little
    tissue; were they counted at inference, the middle would be normalised as it never was before.
    """
    inside = (depth_mm >= MIDDLE_MM[0]) & (depth_mm <= MIDDLE_MM[1])
    numbers = (inside if shown is None else inside & shown).nonzero()[:, 0]
    if not len(numbers):
        return slice(None)
    run = slice(int(numbers[0]), int(numbers[-1]) + 1)  # which costs no copy
    return run if run.stop - run.start == len(numbers) else numbers


def normalise_by_batch(network: nn.Module) -> nn.Module:
    """Have batch normalisation use the batch at hand always, in training and after.

    A batch is one person's slices. Scanners differ in more than gain; statistics learned on those
    of the training subjects would not fit another (adaptive batch normalisation; Li et al. 2017).
    UNETR, MedNeXt and the 3-D U-Net have no such layers.
    """
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, PersonNorm(layer))
            elif isinstance(layer, _BatchNorm):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return network
