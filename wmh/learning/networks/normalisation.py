"""Batch normalisation by the statistics of one person, from all or some of the person's slices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

MIDDLE_MM = (10.0, 120.0)
"""Depths below the crown between which the middle of a head lies: most of the brain, no neck."""

Chosen = slice | torch.Tensor
"""An index of some slices of a batch."""

_chosen: ContextVar[Chosen | None] = ContextVar("chosen", default=None)  # separate in each thread


class PersonNorm(nn.BatchNorm2d):
    """Normalises by all slices of the batch, or by those that :func:`statistics_from` chooses."""

    def __init__(self, layer: nn.BatchNorm2d):
        super().__init__(layer.num_features, layer.eps, track_running_stats=False)
        self.weight, self.bias = layer.weight, layer.bias
        # timm's layers also hold the dropout and activation that follow
        self.drop = getattr(layer, "drop", nn.Identity())
        self.act = getattr(layer, "act", nn.Identity())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From features (B, C, H, W) to the same, normalised."""
        chosen = _chosen.get()
        if chosen is None:
            return self.act(self.drop(super().forward(features)))
        # running statistics, which are not used, make it return single precision
        running = torch.zeros_like(self.bias), torch.ones_like(self.bias)
        mean, variance = torch.batch_norm_update_stats(features[chosen], *running, momentum=1.0)
        normalised = functional.batch_norm(
            features, mean, variance, self.weight, self.bias, training=False, eps=self.eps
        )
        return self.act(self.drop(normalised))


@contextmanager
def statistics_from(chosen: Chosen) -> Iterator[None]:
    """Inside this context, networks normalise a batch by the chosen slices, without gradients."""
    before = _chosen.set(chosen)
    try:
        yield
    finally:
        _chosen.reset(before)


def middle_of_head(depth_mm: torch.Tensor, shown: torch.Tensor | None = None) -> Chosen:
    """The slices in the middle of the head, in order, or all slices if none lies there.

    With ``shown`` (N,), only slices in which no image is blank are taken.

    Most training slices come from the middle of the head, because lesions lie there. Crown and neck
    have little tissue. If they counted at inference, the middle would be normalised differently
    from training.
    """
    inside = (depth_mm >= MIDDLE_MM[0]) & (depth_mm <= MIDDLE_MM[1])
    numbers = (inside if shown is None else inside & shown).nonzero()[:, 0]
    if not len(numbers):
        return slice(None)
    run = slice(int(numbers[0]), int(numbers[-1]) + 1)  # indexing by a slice needs no copy
    return run if run.stop - run.start == len(numbers) else numbers


def normalise_by_batch(network: nn.Module) -> nn.Module:
    """Make batch normalisation always use the statistics of the current batch.

    A batch holds slices of one person. Scanners differ not only in gain, and statistics learned on
    the training subjects' scanners would not fit another one (adaptive batch normalisation; Li et
    al. 2017). UNETR, MedNeXt and the 3-D U-Net have no such layers.
    """
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, PersonNorm(layer))
            elif isinstance(layer, _BatchNorm):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return network
