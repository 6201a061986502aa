"""Where each pixel lies, as further channels of an image."""

from __future__ import annotations

import torch


def place(images: torch.Tensor, depth_mm: torch.Tensor) -> torch.Tensor:
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
