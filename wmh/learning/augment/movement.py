"""Turn, enlarge, mirror and bend images and labels together."""

from __future__ import annotations

import torch
from torch.nn import functional

from wmh.atlas.regions import mirror_labels
from wmh.learning.augment.fields import change_some, linear_and_cubic_weights, over_space
from wmh.learning.augment.parameters import COARSE, Parameters


def move(
    images: torch.Tensor, labels: dict[str, torch.Tensor], drawn: Parameters
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Move images (B, C, ...) linearly interpolated, and labels (B, ...) to the nearest pixel."""
    grid = sampling_grid(images.shape[2:], drawn, images.device)
    moved = functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
    stack = torch.stack(list(labels.values()), dim=1).float()  # (B, structures, ...)
    stack = functional.grid_sample(stack, grid, mode="nearest", align_corners=False)
    moved_labels = {
        name: stack[:, number].to(label.dtype)
        for number, (name, label) in enumerate(labels.items())
    }
    exchange = torch.arange(256, dtype=torch.uint8)  # 255, not known, stays
    exchange[:37] = torch.as_tensor(mirror_labels())
    exchange = exchange.to(images.device)
    for name, label in moved_labels.items():
        if name.startswith("regions"):
            change_some(
                label, drawn.mirrored, lambda regions, _: exchange[regions.int()].to(regions.dtype)
            )
    return moved, moved_labels


def sampling_grid(space: torch.Size, drawn: Parameters, device: torch.device) -> torch.Tensor:
    """Return where each output pixel is read from: (B, *space, d), as grid_sample takes it.

    The first array axis runs left to right; volumes turn about their third axis alone, which in
    most scans has far thicker voxels than the other two.

    Coordinates are a sum of functions of space: the linear ones that turn, enlarge and mirror, and
    the elastic displacement's cubic ones. One product of matrices per axis adds them all up.
    """
    linear = _linear(space, drawn)  # (B, d, d)
    samples, dimensions = linear.shape[:2]
    coordinate, constant = COARSE, COARSE + 1
    coefficients = linear.new_zeros(samples, dimensions, *[COARSE + 2] * dimensions)
    coefficients[(slice(None), slice(None), *[slice(COARSE)] * dimensions)] = drawn.elastic.flip(1)
    for axis in range(dimensions):
        points = [constant] * dimensions
        points[axis] = coordinate
        coefficients[(slice(None), slice(None), *points)] = linear[:, :, axis].flip(1)
    weights = [linear_and_cubic_weights(edge, device) for edge in space]
    grid = over_space(coefficients.to(device, non_blocking=True), weights)  # (B, d, *space)
    return grid.movedim(1, -1)


def _linear(space: torch.Size, drawn: Parameters) -> torch.Tensor:
    """The linear part of each sample's movement, (B, d, d), in shares of half the edges."""
    cosine, sine = torch.cos(drawn.rotation), torch.sin(drawn.rotation)
    sign = 1.0 - 2.0 * drawn.mirrored.float()
    aspect = space[0] / space[1]
    linear = torch.eye(len(space)).repeat(len(cosine), 1, 1)
    linear[:, 0, 0], linear[:, 0, 1] = sign * cosine, sign * sine / aspect
    linear[:, 1, 0], linear[:, 1, 1] = -sine * aspect, cosine
    return linear / drawn.scale[:, None, None]
