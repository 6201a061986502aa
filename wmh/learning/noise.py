"""Normal noise as a function of a seed and a pixel's number, the same on every device.

A random generator gives other numbers on a GPU than on a CPU, and drawing on the CPU makes a GPU
wait. A hash of (seed, pixel) can be computed for all pixels at once, on the image's own device.
"""

from __future__ import annotations

import math

import torch

SPREAD = 0x9E3779B9 - 2**32
"""Odd multiplier (2**32 divided by the golden ratio) that moves neighbouring seeds far apart."""


def normal_noise(seeds: torch.Tensor, count: int) -> torch.Tensor:
    """Standard normal noise (N, count), a row for each seed (N,) int32.

    Each 32-bit hash gives two uniform numbers of 16 bits, and these give two normal ones (Box and
    Muller 1958). No value lies beyond 4.9 standard deviations.
    """
    pairs = (count + 1) // 2
    numbers = torch.arange(pairs, dtype=torch.int32, device=seeds.device)
    bits = hash_bits((seeds * SPREAD)[:, None] + numbers)
    radius = ((bits & 0xFFFF).float() + 0.5).mul_(2**-16).log_().mul_(-2.0).sqrt_()
    angle = bits.bitwise_right_shift_(16).bitwise_and_(0xFFFF).float().mul_(math.tau / 2**16)
    noise = radius.new_empty(len(seeds), 2 * pairs)
    torch.mul(torch.cos(angle), radius, out=noise[:, :pairs])
    torch.mul(angle.sin_(), radius, out=noise[:, pairs:])
    return noise[:, :count]


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
