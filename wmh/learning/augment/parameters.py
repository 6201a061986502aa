"""Parameters of what happens to each sample of a batch, and their draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from wmh.settings import Augmentation

COARSE = 6
"""Control points along each axis of the smooth random fields (elastic, bias)."""

MOMENTS = 6
"""The head may lie elsewhere at each of so many moments of the scan."""


@dataclass
class Parameters:
    """Changes to each of B samples with C channels in d dimensions; all tensors on the CPU.

    Lengths are shares of half the image's edge where no unit is named.
    """

    rotation: torch.Tensor  # (B,) radians, in the plane of the first two axes
    scale: torch.Tensor  # (B,) above 1 enlarges the head
    mirrored: torch.Tensor  # (B,) bool, left and right exchanged
    elastic: torch.Tensor  # (B, d, COARSE, ...)
    bias: torch.Tensor  # (B, C, COARSE, ...) logarithm of the gain
    gamma: torch.Tensor  # (B, C)
    contrast: torch.Tensor  # (B, C)
    brightness: torch.Tensor  # (B, C) gain
    blur: torch.Tensor  # (B, C) standard deviation in pixels, 0 for none
    coarseness: torch.Tensor  # (B, C) how much coarser the resolution is, 1 for none
    coarse_axis: torch.Tensor  # (B, C) along which axis
    motion: torch.Tensor  # (B, C, MOMENTS) displacement in pixels, 0 at the first
    motion_axis: torch.Tensor  # (B, C) along which axis
    additive_noise: torch.Tensor  # (B, C) standard deviation
    multiplicative_noise: torch.Tensor  # (B, C) standard deviation
    noise_seed: torch.Tensor  # (B, C) int32


def draw(shape: tuple[int, ...], settings: Augmentation, generator: torch.Generator) -> Parameters:
    """Draw parameters for a batch of images of ``shape`` (B, C, H, W) or (B, C, X, Y, Z)."""
    samples, channels, *space = shape
    each, dimensions = (samples, channels), len(space)
    points = (COARSE,) * dimensions

    def uniform(low: float, high: float, *size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator) * (high - low) + low

    def sometimes(values: torch.Tensor, neutral: float, count: int) -> torch.Tensor:
        """Keep ``values`` by chance, decided along their first ``count`` axes; else neutral."""
        chosen = torch.rand(values.shape[:count], generator=generator) < settings.probability
        return torch.where(
            chosen.reshape(*chosen.shape, *[1] * (values.ndim - count)), values, neutral
        )

    def smooth(strength: float, fields: int) -> torch.Tensor:
        return strength * torch.randn(samples, fields, *points, generator=generator)

    def axis() -> torch.Tensor:
        return torch.randint(dimensions, each, generator=generator)

    turn = math.radians(settings.rotation_degrees)
    jerks = uniform(-settings.motion_pixels, settings.motion_pixels, *each, MOMENTS)
    jerks[..., 0] = 0.0  # the middle of k-space is where the labels are
    return Parameters(
        rotation=sometimes(uniform(-turn, turn, samples), 0.0, 1),
        scale=sometimes(uniform(*settings.scaling, samples), 1.0, 1),
        mirrored=uniform(0, 1, samples) < (0.5 if settings.mirroring else 0.0),
        elastic=sometimes(smooth(settings.elastic, dimensions), 0.0, 1),
        bias=sometimes(smooth(settings.bias_field, channels), 0.0, 2),
        gamma=sometimes(uniform(*settings.gamma, *each), 1.0, 2),
        contrast=sometimes(uniform(*settings.contrast, *each), 1.0, 2),
        brightness=sometimes(uniform(*settings.brightness, *each), 1.0, 2),
        blur=sometimes(uniform(*settings.blur_pixels, *each), 0.0, 2),
        coarseness=sometimes(uniform(*settings.low_resolution, *each), 1.0, 2),
        coarse_axis=axis(),
        motion=sometimes(jerks, 0.0, 2),
        motion_axis=axis(),
        additive_noise=sometimes(uniform(0, settings.additive_noise, *each), 0.0, 2),
        multiplicative_noise=sometimes(uniform(0, settings.multiplicative_noise, *each), 0.0, 2),
        noise_seed=torch.randint(2**31 - 1, each, dtype=torch.int32, generator=generator),
    )
