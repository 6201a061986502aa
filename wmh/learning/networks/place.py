"""The place of each pixel in the head, as further channels of an image.

From one slice or patch alone, a network cannot tell left from right, or a gyrus from the one above
it (coordinate convolution; Liu et al. 2018).
"""

from __future__ import annotations

import torch

PLACE_CHANNELS = 3

WAVES = 3
"""Number of wavelengths of :func:`fine_place`, each half of the one before."""

FINE_PLACE_CHANNELS = PLACE_CHANNELS * (1 + 2 * WAVES)


def place(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Three channels with the place of each pixel of images (B, C, ...), each about -1 to 1.

    For slices (B, C, H, W), ``where`` is their depth below the crown (B,) in mm. For patches
    (B, C, X, Y, Z), it is the start and the step along each axis (B, 3, 2), in the units of the
    channels.
    """
    if images.ndim == 4:
        return place_in_slice(images, where)
    axes = []
    for axis, edge in enumerate(images.shape[2:]):
        start, step = where[:, axis, :, None].to(images.device).unbind(1)  # (B, 1) both
        along = start + step * torch.arange(edge, device=images.device)  # (B, edge)
        shape = [len(images), 1, 1, 1]
        shape[axis + 1] = edge
        axes.append(along.reshape(shape).expand(-1, *images.shape[2:]))
    return torch.stack(axes, dim=1).to(images.dtype)


def place_in_slice(images: torch.Tensor, depth_mm: torch.Tensor) -> torch.Tensor:
    """Three channels (B, 3, H, W) with the place of each pixel, each about -1 to 1.

    The first two are the distances in pixels to the right and to the front from the middle of the
    head, divided by 64. The third is (depth below the crown in mm - 75) / 75.
    """
    samples, _, height, width = images.shape
    right = (torch.arange(height, device=images.device) - (height - 1) / 2) / 64
    front = (torch.arange(width, device=images.device) - (width - 1) / 2) / 64
    depth = (depth_mm.to(images.device) - 75) / 75
    size = (samples, height, width)
    channels = [
        right[None, :, None].expand(size),
        front[None, None, :].expand(size),
        depth[:, None, None].expand(size),
    ]
    return torch.stack(channels, dim=1).to(images.dtype)


def fine_place(place: torch.Tensor) -> torch.Tensor:
    """The place (B, 3, ...) with its sines and cosines at several wavelengths: (B, 21, ...).

    With them a pixel's class can change within millimetres, although its place hardly changes
    (Fourier features; Tancik et al. 2020).
    """
    turns = [place * (torch.pi / 2 * 2**wave) for wave in range(WAVES)]
    return torch.cat([place, *(f(turn) for turn in turns for f in (torch.sin, torch.cos))], dim=1)
