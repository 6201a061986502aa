"""Normal noise as a function of a seed and a pixel's number, the same on every device.

A random generator gives other numbers on a GPU than on a CPU, and drawing on the CPU makes a GPU
wait. A hash of (seed, pixel) can be computed for all pixels at once, on the image's own device.
"""

from __future__ import annotations

from functools import lru_cache

import torch

SPREAD = 0x9E3779B9 - 2**32
"""Odd multiplier (2**32 divided by the golden ratio) that moves neighbouring seeds far apart."""


def normal_noise(seeds: torch.Tensor, count: int) -> torch.Tensor:
    """Standard normal noise (N, count), a row for each seed (N,) int32.

    Each 32-bit hash gives two numbers of 16 bits, and each of these one of 65,536 quantiles of the
    normal distribution. No value lies beyond 4.4 standard deviations.
    """
    numbers = torch.arange((count + 1) // 2, dtype=torch.int32, device=seeds.device)
    bits = hash_bits((seeds * SPREAD)[:, None] + numbers)
    which = bits.view(torch.uint16).int()
    noise = normal_quantiles(seeds.device).index_select(0, which.flatten())
    return noise.reshape(which.shape)[:, :count]


@lru_cache
def normal_quantiles(device: torch.device) -> torch.Tensor:
    """The normal distribution's values at 65,536 equally spaced probabilities, on a device.

    They rise with the number of 16 bits that chooses them, where this is read as a signed one.
    """
    probability = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    return torch.special.ndtri(probability).float().roll(2**15).to(device)


def hash_bits(numbers: torch.Tensor) -> torch.Tensor:
    """Hash int32 numbers in place, so that each bit of the result depends on all bits.

    Source: the function ``lowbias32`` of Wellons' search for integer hashes (2018).
    """
    _mix(numbers, 16)
    numbers.mul_(0x7FEB352D)
    _mix(numbers, 15)
    numbers.mul_(0x846CA68B - 2**32)
    return _mix(numbers, 16)


def _mix(numbers: torch.Tensor, shift: int) -> torch.Tensor:
    """Fold the upper bits into the lower ones; the sign bit does not follow the shift."""
    return numbers.bitwise_xor_((numbers >> shift).bitwise_and_((1 << (32 - shift)) - 1))
