"""Augmentation of whole batches, as tensor operations on the device that trains.

:func:`draw` draws every sample's parameters from one generator on the CPU, so that a seed means the
same augmentation on any device; :func:`apply` only applies them. A sample that is not chosen for an
augmentation gets its neutral value, so there is no loop over samples. Slices (B, C, H, W) and
volumes (B, C, X, Y, Z) go through the same code.
"""

from __future__ import annotations

import torch

from wmh.learning.augment.intensities import corrupt
from wmh.learning.augment.movement import move
from wmh.learning.augment.parameters import Parameters, draw

__all__ = ["Parameters", "apply", "draw"]


def apply(
    images: torch.Tensor, labels: dict[str, torch.Tensor], drawn: Parameters
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Augment images (B, C, ...) and, by the same movement, labels (B, ...) of each name.

    Labels keep their type and hold no value they did not hold before, but for those whose name
    starts with ``regions``: left and right labels are exchanged where a sample is mirrored.
    """
    return move(corrupt(images, drawn), labels, drawn)
