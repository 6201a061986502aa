"""Augmentation of whole batches, as tensor operations on the training device.

:func:`draw` draws the parameters of all samples from one generator on the CPU, so that a seed gives
the same augmentation on any device; :func:`apply` applies them. A sample that does not get an
augmentation has its neutral value, so that there is no loop over samples. Slices (B, C, H, W) and
volumes (B, C, X, Y, Z) use the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

from wmh.atlas.regions import ALL_LABELS, mirror_labels
from wmh.learning.noise import normal_noise
from wmh.settings import Augmentation

COARSE = 6
"""Control points along each axis of the smooth random fields (elastic, bias)."""

MOMENTS = 6
"""Number of moments of the scan at which the head may have another position."""


@dataclass
class Parameters:
    """Changes to each of B samples with C channels in d dimensions; all tensors are on the CPU.

    Lengths without a unit are shares of half the image's edge.
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
    coarseness: torch.Tensor  # (B, C) factor by which the resolution is coarser, 1 for none
    coarse_axis: torch.Tensor  # (B, C) along which axis
    motion: torch.Tensor  # (B, C, MOMENTS) displacement in pixels, 0 at the first
    motion_axis: torch.Tensor  # (B, C) along which axis
    additive_noise: torch.Tensor  # (B, C) standard deviation
    multiplicative_noise: torch.Tensor  # (B, C) standard deviation
    noise_seed: torch.Tensor  # (B, C) int32

    def of(self, chosen: torch.Tensor) -> Parameters:
        """The parameters of the chosen samples."""
        return Parameters(**{name: value[chosen] for name, value in vars(self).items()})


def draw(shape: tuple[int, ...], settings: Augmentation, generator: torch.Generator) -> Parameters:
    """Draw parameters for a batch of images of ``shape`` (B, C, H, W) or (B, C, X, Y, Z)."""
    samples, channels, *space = shape
    each, dimensions = (samples, channels), len(space)
    points = (COARSE,) * dimensions

    def uniform(low: float, high: float, *size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator) * (high - low) + low

    def sometimes(values: torch.Tensor, neutral: float, count: int) -> torch.Tensor:
        """Keep ``values`` by chance, drawn along their first ``count`` axes; else ``neutral``."""
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
    jerks[..., 0] = 0.0  # labels show the head at the first moment, the middle of k-space
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


def apply(
    images: torch.Tensor, labels: dict[str, torch.Tensor], drawn: Parameters
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Augment images (B, C, ...), and move labels (B, ...) of each name in the same way.

    Labels keep their type and get no new values, with one exception: in labels whose name starts
    with ``regions``, left and right are exchanged where a sample is mirrored.
    """
    return move(corrupt(images, drawn), labels, drawn)


def corrupt(images: torch.Tensor, drawn: Parameters) -> torch.Tensor:
    """Change the intensities of images (B, C, ...); the background stays near 0."""
    space, device = images.shape[2:], images.device
    rows = images.flatten(0, 1).clone()  # (B C, *space)
    ones = [1] * len(space)
    p = {name: value.flatten(0, 1) for name, value in vars(drawn).items() if value.ndim > 1}
    gain = p["bias"] + p["brightness"].log().reshape(-1, *ones)  # cubic weights add up to 1

    def each(name: str, which: torch.Tensor) -> torch.Tensor:
        """A parameter of the rows ``which``, (rows, 1, ...), on the images' device."""
        return p[name][which].reshape(-1, *ones).to(device, non_blocking=True)

    def in_k_space(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Multiply the spectrum of rows by one transfer function along each axis."""
        picked = {name: value[which] for name, value in p.items()}
        axes = tuple(range(1, some.ndim))
        spectrum = torch.fft.rfftn(some, dim=axes)
        for axis in range(len(space)):
            shape = [len(some), *ones]
            shape[axis + 1] = -1
            along = transfer(picked, axis, space).to(device, non_blocking=True)
            spectrum *= along.reshape(shape)
        return torch.fft.irfftn(spectrum, s=space, dim=axes).abs_()

    def gamma(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Keeps the background near 0 and the median at 1.

        The logarithm is faster than ``pow``, but slow at 0, which therefore counts as 1e-20.
        """
        return some.clamp_(min=1e-20).log_().mul_(each("gamma", which)).exp_()

    def contrast(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Change the contrast around the median; the empty background stays unchanged."""
        strength = each("contrast", which) - 1
        return torch.addcmul(some, (some - 1).mul_(strength), some.clamp(max=1))

    def amplify(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        weights = [cubic_weights(edge, device) for edge in space]
        points = gain[which][:, None].to(device, non_blocking=True)
        return over_space(points, weights)[:, 0].exp_().mul_(some)

    def noise(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Additive and multiplicative noise; their sum is one normal variable."""
        additive = each("additive_noise", which).square()
        multiplicative = some * each("multiplicative_noise", which).square()
        deviation = torch.addcmul(additive, multiplicative, some).sqrt_()
        field = normal_noise(each("noise_seed", which).flatten(), math.prod(space))
        return torch.addcmul(some, deviation, field.reshape(some.shape)).clamp_(min=0)

    filtered = (p["blur"] > 0) | (p["coarseness"] > 1) | (p["motion"] != 0).any(dim=1)
    change_some(rows, filtered, in_k_space)
    change_some(rows, p["gamma"] != 1, gamma)
    change_some(rows, p["contrast"] != 1, contrast)
    change_some(rows, (gain != 0).flatten(1).any(dim=1), amplify)
    change_some(rows, (p["additive_noise"] > 0) | (p["multiplicative_noise"] > 0), noise)
    return rows.reshape(images.shape)


def transfer(p: dict[str, torch.Tensor], axis: int, space: torch.Size) -> torch.Tensor:
    """The factor on each spatial frequency along one axis: (rows, frequencies).

    Blur damps high frequencies; a coarser resolution has none above its limit. Motion adds the
    phase errors of a head that has another position along the axis at each of a few moments of the
    scan. Lines are acquired from the middle of k-space outwards, so that the image stays real.
    """
    last = axis == len(space) - 1
    frequency = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(space[axis])  # cycles per pixel
    damped = torch.exp(-2 * (math.pi * p["blur"][:, None] * frequency).square())
    limit = 0.5 / torch.where(p["coarse_axis"] == axis, p["coarseness"], 1.0)[:, None]
    moment = (frequency.abs() * (2 * MOMENTS)).long().clamp(max=MOMENTS - 1)
    moved = torch.where(p["motion_axis"][:, None] == axis, p["motion"], 0.0)[:, moment]
    return torch.polar(damped * (frequency.abs() <= limit), -math.tau * frequency * moved)


def move(
    images: torch.Tensor, labels: dict[str, torch.Tensor], drawn: Parameters
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Move images (B, C, ...) by linear interpolation and labels (B, ...) to the nearest pixel.

    Images are changed in place. A sample that is only mirrored is flipped, and one that is not
    moved stays as it is.
    """
    structures = torch.stack(list(labels.values()), dim=1).float()
    bent = (drawn.rotation != 0) | (drawn.scale != 1) | (drawn.elastic != 0).flatten(1).any(dim=1)

    def flip(some: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return some.flip(2)

    change_some(images, drawn.mirrored & ~bent, flip)
    change_some(structures, drawn.mirrored & ~bent, flip)
    if bent.any():
        grid = sampling_grid(images.shape[2:], drawn.of(bent), images.device)

        def bend(mode: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
            return lambda some, _: functional.grid_sample(some, grid, mode, align_corners=False)

        change_some(images, bent, bend("bilinear"))
        change_some(structures, bent, bend("nearest"))
    moved_labels = {
        name: structures[:, number].to(label.dtype)
        for number, (name, label) in enumerate(labels.items())
    }
    exchange = torch.arange(256, dtype=torch.uint8)  # 255 (unknown) stays unchanged
    exchange[: len(ALL_LABELS)] = torch.as_tensor(mirror_labels())
    exchange = exchange.to(images.device)
    for name, label in moved_labels.items():
        if name.startswith("regions"):
            change_some(
                label, drawn.mirrored, lambda regions, _: exchange[regions.int()].to(regions.dtype)
            )
    return images, moved_labels


def sampling_grid(space: torch.Size, drawn: Parameters, device: torch.device) -> torch.Tensor:
    """The position from which each output pixel is read: (B, *space, d), for ``grid_sample``.

    The first array axis runs from left to right. Volumes turn only about their third axis, along
    which most scans have far thicker voxels.

    Coordinates are a sum of functions of space: linear ones that turn, enlarge and mirror, and
    cubic ones of the elastic displacement. One matrix product per axis adds them all.
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


@lru_cache(maxsize=64)
def cubic_weights(edge: int, device: torch.device) -> torch.Tensor:
    """Weight (edge, COARSE) of each control point at each pixel: cubic interpolation."""
    points = torch.eye(COARSE)[:, None, :, None]  # one image for each control point
    weights = functional.interpolate(points, (edge, 1), mode="bicubic", align_corners=True)
    return weights[:, 0, :, 0].T.contiguous().to(device)


@lru_cache(maxsize=64)
def linear_and_cubic_weights(edge: int, device: torch.device) -> torch.Tensor:
    """The cubic weights, each pixel's coordinate from -1 to 1, and 1: (edge, COARSE + 2)."""
    coordinate = (2 * torch.arange(edge, device=device) + 1) / edge - 1
    columns = [coordinate[:, None], torch.ones(edge, 1, device=device)]
    return torch.cat([cubic_weights(edge, device), *columns], dim=1)


def over_space(coefficients: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Sum of functions of space with ``coefficients`` (B, C, n, ...): (B, C, *space).

    ``weights`` holds, for each axis, its n functions as (edge, n).
    """
    for along in weights:  # each replaces the first axis of coefficients by a last axis of pixels
        coefficients = torch.tensordot(coefficients, along, dims=([2], [1]))
    return coefficients


def change_some(
    rows: torch.Tensor,
    changed: torch.Tensor,
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    """Replace, in place, rows where ``changed`` (N,) is true by ``change(rows, their numbers)``.

    ``changed`` is on the CPU, where it was drawn, so that nothing waits for a GPU.
    """
    numbers = changed.nonzero()[:, 0]
    if len(numbers) == len(rows):  # all rows change: no need to select them
        rows.copy_(change(rows, numbers))
    elif len(numbers):
        there = numbers.to(rows.device, non_blocking=True)
        rows.index_copy_(0, there, change(rows.index_select(0, there), numbers))
