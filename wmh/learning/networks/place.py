"""Place of each pixel, as further channels of an image.

One slice or patch alone does not tell left from right or a gyrus from the one above it (coordinate
convolution; Liu et al. 2018).
"""

from __future__ import annotations

import torch

PLACE_CHANNELS = 3

WAVES = 3
"""Wavelengths of the finer place, each half of the one before."""

FINE_PLACE_CHANNELS = PLACE_CHANNELS * (1 + 2 * WAVES)


def place(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Three channels that say where each pixel of images (B, C, ...) lies, each about -1 to 1.

    Slices (B, C, H, W) come with their depth below the crown (B,) in mm, patches (B, C, X, Y, Z)
    with the start and the step along each axis, (B, 3, 2), in units of the channel itself.
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
    """Three channels (B, 3, H, W) that say where a pixel lies, each about -1 to 1.

    Pixels right and in front of the middle of the head, in units of 64, and mm below the crown, in
    units of 75 from a middle of 75.
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
    """The place and its sines and cosines at several wavelengths, from (B, 3, ...).

    A pixel's class can so change within millimetres although its place hardly does (Fourier
    features; Tancik et al. 2020). Returns (B, 21, ...).
    """
    turns = [place * (torch.pi / 2 * 2**wave) for wave in range(WAVES)]
    return torch.cat([place, *(f(turn) for turn in turns for f in (torch.sin, torch.cos))], dim=1)
