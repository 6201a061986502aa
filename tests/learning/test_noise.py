import pytest
import torch
from scipy import stats

from wmh.learning.noise import hash_bits, normal_noise

SEEDS = torch.arange(40, dtype=torch.int32) * 7919 + 5
NOISE = normal_noise(SEEDS, 5001)


def test_noise_is_standard_normal():
    assert NOISE.shape == (40, 5001)
    assert stats.kstest(NOISE.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kurtosis(NOISE.flatten().numpy()) == pytest.approx(0, abs=0.05)


def test_rows_and_neighbours_are_not_correlated():
    """200,000 independent pairs have correlations below 0.01 in all but 1 of 100,000 cases."""
    pairs = [
        (NOISE[1:], NOISE[:-1]),
        (NOISE[:, 1:], NOISE[:, :-1]),
        (NOISE[:, 2500:5000], NOISE[:, :2500]),
    ]
    for one, other in pairs:
        assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.015


def test_a_row_depends_on_its_seed_alone():
    alone = normal_noise(SEEDS[3:4], 5001)
    assert torch.equal(alone[0], NOISE[3])
    assert not torch.equal(NOISE[2], NOISE[3])


def test_the_hash_is_the_published_function():
    """By its C definition, on plain integers."""

    def lowbias32(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D & 0xFFFFFFFF
        x ^= x >> 15
        x = x * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    numbers = torch.tensor([1, 2, 77, 2**31 - 1, -1, -12345], dtype=torch.int32)
    expected = [lowbias32(number % 2**32) for number in numbers.tolist()]
    assert [bits % 2**32 for bits in hash_bits(numbers.clone()).tolist()] == expected


def test_a_flipped_bit_flips_half_of_all_bits():
    numbers = torch.randint(0, 2**31 - 1, (4000,), dtype=torch.int32)
    changed = hash_bits(numbers.clone()) ^ hash_bits(numbers ^ 1)
    flipped = torch.stack([(changed >> bit) & 1 for bit in range(32)]).float().mean(dim=1)
    assert flipped.min() > 0.45
    assert flipped.max() < 0.55
