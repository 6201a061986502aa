"""Augmentation of whole batches, as tensor operations on the device that trains.

:func:`draw` draws every sample's parameters from one generator on the CPU, so that a seed means the
same augmentation on any device; :func:`apply` only applies them. A sample that is not chosen for an
augmentation gets its neutral value, so there is no branch and no loop over samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch.nn import functional

from wmh.atlas.regions import mirror_labels
from wmh.study import Augmentation

COARSE = 6
"""Control points along each axis of the smooth random fields (elastic, bias)."""


@dataclass
class Parameters:
    """What happens to each of B samples. Lengths are shares of half the slice's edge."""

    rotation: torch.Tensor  # (B,) radians
    scale: torch.Tensor  # (B,) above 1 enlarges the head
    mirrored: torch.Tensor  # (B,) bool, left and right exchanged
    elastic: torch.Tensor  # (B, 2, COARSE, COARSE)
    bias: torch.Tensor  # (B, C, COARSE, COARSE) logarithm of the gain
    gamma: torch.Tensor  # (B, C)
    contrast: torch.Tensor  # (B, C)
    brightness: torch.Tensor  # (B, C) gain
    blur: torch.Tensor  # (B, C) standard deviation in pixels, 0 for none
    additive_noise: torch.Tensor  # (B, C) standard deviation
    multiplicative_noise: torch.Tensor  # (B, C) standard deviation
    noise: torch.Tensor  # (2, B, C, H, W) standard normal

    def to(self, device: torch.device) -> Parameters:
        """The same parameters on a device."""
        return Parameters(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


def draw(
    shape: tuple[int, int, int, int], settings: Augmentation, generator: torch.Generator
) -> Parameters:
    """Draw parameters for a batch of images of ``shape`` (B, C, H, W)."""
    samples, channels, height, width = shape

    def uniform(low: float, high: float, *size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator) * (high - low) + low

    def chosen(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator) < settings.probability

    def sometimes(neutral: float, values: torch.Tensor) -> torch.Tensor:
        pick = chosen(*values.shape[:2] if values.ndim > 1 else values.shape)
        return torch.where(
            pick.reshape(pick.shape + (1,) * (values.ndim - pick.ndim)), values, neutral
        )

    def field(strength: float, fields: int) -> torch.Tensor:
        return strength * torch.randn(samples, fields, COARSE, COARSE, generator=generator)

    turn = math.radians(settings.rotation_degrees)
    mirrored = torch.rand(samples, generator=generator) < (0.5 if settings.mirroring else 0.0)
    bent = chosen(samples)[:, None, None, None]
    return Parameters(
        rotation=sometimes(0.0, uniform(-turn, turn, samples)),
        scale=sometimes(1.0, uniform(*settings.scaling, samples)),
        mirrored=mirrored,
        elastic=bent * field(settings.elastic, 2),
        bias=sometimes(0.0, field(settings.bias_field, channels)),
        gamma=sometimes(1.0, uniform(*settings.gamma, samples, channels)),
        contrast=sometimes(1.0, uniform(*settings.contrast, samples, channels)),
        brightness=sometimes(1.0, uniform(*settings.brightness, samples, channels)),
        blur=sometimes(0.0, uniform(*settings.blur_pixels, samples, channels)),
        additive_noise=sometimes(0.0, uniform(0, settings.additive_noise, samples, channels)),
        multiplicative_noise=sometimes(
            0.0, uniform(0, settings.multiplicative_noise, samples, channels)
        ),
        noise=torch.randn(2, samples, channels, height, width, generator=generator),
    )


def apply(
    images: torch.Tensor, labels: dict[str, torch.Tensor], drawn: Parameters
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Augment images (B, C, H, W) and, by the same movement, labels (B, H, W) of each structure.

    Labels keep their type and hold no value they did not hold before, but for ``regions``, whose
    left and right labels are exchanged where a sample is mirrored.
    """
    images = _corrupt(images, drawn)
    grid = _sampling_grid(images.shape, drawn)
    moved = functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
    moved_labels = {
        name: functional.grid_sample(
            label[:, None].float(), grid, mode="nearest", align_corners=False
        )[:, 0].to(label.dtype)
        for name, label in labels.items()
    }
    exchange = torch.as_tensor(mirror_labels(), device=images.device)
    mirrored = drawn.mirrored[:, None, None]
    for name in moved_labels:
        if name.startswith("regions"):
            regions = moved_labels[name].long()
            exchanged = torch.where(mirrored, exchange[regions], regions)
            moved_labels[name] = exchanged.to(labels[name].dtype)
    return moved, moved_labels


def _sampling_grid(shape: torch.Size, drawn: Parameters) -> torch.Tensor:
    """Where each output pixel is read from, (B, H, W, 2) in grid_sample's coordinates.

    Slices are (x, y) arrays: the first axis, the grid's second coordinate, runs left to right.
    """
    samples, _, height, width = shape
    cosine, sine = torch.cos(drawn.rotation) / drawn.scale, torch.sin(drawn.rotation) / drawn.scale
    sign = 1.0 - 2.0 * drawn.mirrored.float()
    aspect = height / width
    zero = torch.zeros_like(sign)
    matrix = torch.stack(
        [
            torch.stack([cosine, -sine * aspect, zero], dim=1),
            torch.stack([sign * sine / aspect, sign * cosine, zero], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = functional.affine_grid(matrix, [samples, 1, height, width], align_corners=False)
    return grid + _smooth(drawn.elastic, height, width).permute(0, 2, 3, 1)


def _corrupt(images: torch.Tensor, drawn: Parameters) -> torch.Tensor:
    """Change intensities: blur, gamma, contrast, bias field, multiplicative and additive noise."""

    def spread(values: torch.Tensor) -> torch.Tensor:
        return values[:, :, None, None]

    images = _blur(images, drawn.blur) ** spread(drawn.gamma)  # keeps background 0 and median 1
    # Contrast turns about the median; the background, where there is nothing, stays as it is.
    images = images + (spread(drawn.contrast) - 1) * (images - 1) * images.clamp(max=1)
    images = images * spread(drawn.brightness) * torch.exp(_smooth(drawn.bias, *images.shape[2:]))
    images = images * (1 + spread(drawn.multiplicative_noise) * drawn.noise[0])
    return (images + spread(drawn.additive_noise) * drawn.noise[1]).clamp(min=0)


def _blur(images: torch.Tensor, sigma: torch.Tensor, reach: int = 3) -> torch.Tensor:
    """Gaussian blur of each channel of each sample by its own ``sigma`` (B, C) in pixels."""
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-2)[..., None]) ** 2)
    weights = (weights / weights.sum(-1, keepdim=True)).flatten(0, 1)  # (B C, 2 reach + 1)
    flat = images.flatten(0, 1)[None]  # (1, B C, H, W)
    groups = flat.shape[1]
    flat = functional.conv2d(flat, weights[:, None, :, None], padding=(reach, 0), groups=groups)
    flat = functional.conv2d(flat, weights[:, None, None, :], padding=(0, reach), groups=groups)
    return flat[0].reshape(images.shape)


def _smooth(coarse: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Turn control points (B, C, COARSE, COARSE) into a smooth field (B, C, height, width)."""
    return functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
