import math

import pytest
import torch
from scipy import ndimage

from tests.learning.augment.conftest import NOTHING, augmented, nothing_drawn
from wmh.learning.augment.intensities import corrupt


def spectrum(images: torch.Tensor, axis: int) -> torch.Tensor:
    """Largest magnitude of each frequency along an axis."""
    others = [other for other in range(images.ndim) if other != axis]
    return torch.fft.rfft(images, dim=axis).abs().amax(dim=others)


def smooth_blobs(shape=(1, 1, 32, 48)) -> torch.Tensor:
    """A bright image without sharp edges, so that nothing rings below zero."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return 5 + torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, *[1.0] * (len(shape) - 2))))


def test_background_stays_dark():
    """Contrast, gain and gamma leave the background at zero."""
    settings = NOTHING.model_copy(
        update={"contrast": (0.5, 0.5), "gamma": (2.0, 2.0), "bias_field": 0.3}
    )
    moved, _ = augmented(settings)
    assert moved[:, :, :4, :4].abs().max() == 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_blur_is_a_gaussian_of_the_drawn_width(dimensions):
    images = torch.rand(2, 1, *(24, 20, 16)[:dimensions])
    drawn = nothing_drawn(images.shape)
    drawn.blur = torch.tensor([[1.2], [0.0]])
    blurred = corrupt(images, drawn)
    expected = ndimage.gaussian_filter(images[0, 0].numpy(), 1.2, mode="wrap", truncate=8)
    assert (blurred[0, 0] - torch.from_numpy(expected)).abs().max() < 2e-3
    assert torch.equal(blurred[1], images[1])


@pytest.mark.parametrize("axis", [2, 3])
def test_low_resolution_leaves_only_low_frequencies_along_its_axis(axis):
    images = smooth_blobs()
    drawn = nothing_drawn(images.shape)
    drawn.coarseness, drawn.coarse_axis = torch.tensor([[2.0]]), torch.tensor([[axis - 2]])
    coarse = corrupt(images, drawn)
    kept = images.shape[axis] // 4
    before, after = spectrum(images, axis), spectrum(coarse, axis)
    torch.testing.assert_close(after[: kept + 1], before[: kept + 1], rtol=1e-3, atol=1e-3)
    assert after[kept + 1 :].max() < 1e-3
    other = 5 - axis
    torch.testing.assert_close(coarse.mean(axis), images.mean(axis))
    assert not torch.allclose(coarse.mean(other), images.mean(other), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 32, 48), (1, 1, 24, 16, 12)])
def test_motion_changes_phases_along_one_axis_and_no_magnitude(shape):
    images = smooth_blobs(shape)
    for axis in range(2, len(shape)):
        drawn = nothing_drawn(shape)
        drawn.motion[..., 1:] = torch.tensor([0.5, -0.4, 0.8, -0.9, 0.3])
        drawn.motion_axis[:] = axis - 2
        moved = corrupt(images, drawn)
        assert (moved - images).abs().max() > 1e-3
        torch.testing.assert_close(moved.mean(axis), images.mean(axis))  # frequency 0 stays
        below_nyquist = slice(0, (shape[axis] - 1) // 2 + 1)
        torch.testing.assert_close(
            spectrum(moved, axis)[below_nyquist],
            spectrum(images, axis)[below_nyquist],
            rtol=1e-3,
            atol=1e-3,
        )


def test_a_head_that_lies_elsewhere_all_the_time_is_shifted():
    images = smooth_blobs((1, 1, 33, 48))
    drawn = nothing_drawn(images.shape)
    drawn.motion[:] = 3.0
    drawn.motion_axis[:] = 0
    torch.testing.assert_close(corrupt(images, drawn), images.roll(3, 2), rtol=1e-4, atol=1e-4)


def test_gamma_contrast_and_brightness_by_hand():
    images = torch.tensor([0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 2, 2)
    drawn = nothing_drawn(images.shape)
    drawn.gamma[:], drawn.contrast[:], drawn.brightness[:] = 2.0, 1.5, 1.1
    # squared: 0, 0.25, 1, 4; half of (v - 1) min(v, 1) added: 0, 0.15625, 1, 5.5; times 1.1
    expected = torch.tensor([0.0, 0.171875, 1.1, 6.05]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(corrupt(images, drawn), expected)


def test_a_bias_of_equal_points_is_one_gain():
    images = torch.rand(2, 2, 16, 24)
    drawn = nothing_drawn(images.shape)
    drawn.bias[1, 0] = math.log(3)
    expected = images.clone()
    expected[1, 0] *= 3
    torch.testing.assert_close(corrupt(images, drawn), expected)


def test_noise_has_the_deviation_of_both_its_parts():
    images = torch.full((1, 2, 128, 128), 4.0)
    drawn = nothing_drawn(images.shape)
    drawn.additive_noise[:] = 0.3
    drawn.multiplicative_noise[0, 1] = 0.1
    noise = corrupt(images, drawn) - images
    assert noise[0, 0].std().item() == pytest.approx(0.3, 0.03)
    assert noise[0, 1].std().item() == pytest.approx(0.5, 0.03)  # of 0.3 and 4 x 0.1
    assert noise.mean().abs() < 0.02
