"""Changes that scanners make to intensities: in k-space, in contrast, in gain, and as noise.

Each channel of each sample is a row of its own; see :func:`change_some`.
"""

from __future__ import annotations

import math

import torch

from wmh.learning.augment.fields import change_some, cubic_weights, over_space
from wmh.learning.augment.noise import normal_noise
from wmh.learning.augment.parameters import MOMENTS, Parameters


def corrupt(images: torch.Tensor, drawn: Parameters) -> torch.Tensor:
    """Change the intensities of images (B, C, ...); the background stays near 0."""
    space, device = images.shape[2:], images.device
    rows = images.flatten(0, 1).clone()  # (B C, *space)
    ones = [1] * len(space)
    p = {name: value.flatten(0, 1) for name, value in vars(drawn).items() if value.ndim > 1}
    gain = p["bias"] + p["brightness"].log().reshape(-1, *ones)  # control points add up to 1

    def each(name: str, which: torch.Tensor) -> torch.Tensor:
        """A parameter of some rows, (rows, 1, ...), on the images' device."""
        return p[name][which].reshape(-1, *ones).to(device, non_blocking=True)

    def in_k_space(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        picked = {name: value[which] for name, value in p.items()}
        transfers = [transfer(picked, axis, space) for axis in range(len(space))]
        return filter_in_k_space(some, [t.to(device, non_blocking=True) for t in transfers])

    def gamma(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return some.pow_(each("gamma", which))  # keeps background 0 and median 1

    def contrast(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Turn contrast about the median; the background, where there is nothing, stays."""
        strength = each("contrast", which) - 1
        return some + (some - 1).mul_(some.clamp(max=1)).mul_(strength)

    def amplify(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        weights = [cubic_weights(edge, device) for edge in space]
        points = gain[which][:, None].to(device, non_blocking=True)
        return over_space(points, weights)[:, 0].exp_().mul_(some)

    def noise(some: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Additive and multiplicative noise: the sum of the two is one normal variable."""
        additive = each("additive_noise", which).square()
        deviation = (some * each("multiplicative_noise", which)).square_().add_(additive).sqrt_()
        field = normal_noise(each("noise_seed", which).flatten(), math.prod(space))
        return deviation.mul_(field.reshape(some.shape)).add_(some).clamp_(min=0)

    filtered = (p["blur"] > 0) | (p["coarseness"] > 1) | (p["motion"] != 0).any(dim=1)
    change_some(rows, filtered, in_k_space)
    change_some(rows, p["gamma"] != 1, gamma)
    change_some(rows, p["contrast"] != 1, contrast)
    change_some(rows, (gain != 0).flatten(1).any(dim=1), amplify)
    change_some(rows, (p["additive_noise"] > 0) | (p["multiplicative_noise"] > 0), noise)
    return rows.reshape(images.shape)


def transfer(p: dict[str, torch.Tensor], axis: int, space: torch.Size) -> torch.Tensor:
    """Return the scan's factor on each spatial frequency along one axis: (rows, frequencies).

    Blur damps high frequencies, a coarser resolution has none above its limit. The phase errors
    are those of a head that lies elsewhere, along the axis, at each of a few moments of the scan;
    lines are acquired from the middle of k-space outwards, so the answer is real.
    """
    last = axis == len(space) - 1
    frequency = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(space[axis])  # cycles per pixel
    damped = torch.exp(-2 * (math.pi * p["blur"][:, None] * frequency).square())
    limit = 0.5 / torch.where(p["coarse_axis"] == axis, p["coarseness"], 1.0)[:, None]
    moment = (frequency.abs() * (2 * MOMENTS)).long().clamp(max=MOMENTS - 1)
    moved = torch.where(p["motion_axis"][:, None] == axis, p["motion"], 0.0)[:, moment]
    return torch.polar(damped * (frequency.abs() <= limit), -math.tau * frequency * moved)


def filter_in_k_space(rows: torch.Tensor, transfers: list[torch.Tensor]) -> torch.Tensor:
    """Multiply the spectrum of rows (N, *space) by one transfer function along each axis."""
    axes = tuple(range(1, rows.ndim))
    spectrum = torch.fft.rfftn(rows, dim=axes)
    for axis, along in zip(axes, transfers, strict=True):
        shape = [len(rows)] + [along.shape[1] if other == axis else 1 for other in axes]
        spectrum *= along.reshape(shape)
    return torch.fft.irfftn(spectrum, s=rows.shape[1:], dim=axes).abs_()
