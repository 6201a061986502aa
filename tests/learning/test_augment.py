import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wmh.atlas.regions import mirror_labels
from wmh.learning.augment import apply, corrupt, draw
from wmh.settings import Augmentation

NOTHING = Augmentation(
    probability=1.0,
    rotation_degrees=0,
    scaling=(1, 1),
    mirroring=False,
    elastic=0,
    additive_noise=0,
    multiplicative_noise=0,
    bias_field=0,
    gamma=(1, 1),
    contrast=(1, 1),
    brightness=(1, 1),
    blur_pixels=(0, 0),
    low_resolution=(1, 1),
    motion_pixels=0,
)
ALWAYS = Augmentation(probability=1.0)
BOTH = pytest.mark.parametrize("dimensions", [2, 3])


def batch(samples: int = 6, dimensions: int = 2) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Heads of value 1 with a bright lesion, and regions on both sides of the first axis."""
    images = torch.zeros(samples, 2, 48, 64)
    images[:, :, 8:40, 8:56] = 1.0
    lesions = torch.zeros(samples, 48, 64, dtype=torch.uint8)
    lesions[:, 14:22, 20:32] = 1
    images[lesions[:, None].expand_as(images) == 1] = 2.0
    regions = torch.zeros(samples, 48, 64, dtype=torch.uint8)
    regions[:, 8:24, 8:56], regions[:, 24:40, 8:56] = 4, 21
    labels = {"lesions": lesions, "regions": regions, "regions_skeleton": regions}
    if dimensions == 3:  # the slice, eight times
        images = images[..., None].repeat(1, 1, 1, 1, 8)
        labels = {name: label[..., None].repeat(1, 1, 1, 8) for name, label in labels.items()}
    return images, labels


def augmented(settings: Augmentation, seed: int = 0, dimensions: int = 2):
    images, labels = batch(dimensions=dimensions)
    drawn = draw(tuple(images.shape), settings, torch.Generator().manual_seed(seed))
    return apply(images, labels, drawn)


def nothing_drawn(shape: tuple[int, ...]):
    """Parameters that leave images of a shape as they are, to change one of."""
    return draw(shape, NOTHING, torch.Generator().manual_seed(0))


@BOTH
@pytest.mark.parametrize(
    "off", [NOTHING, Augmentation(probability=0.0, mirroring=False)], ids=["strength", "chance"]
)
def test_nothing_changes_nothing(off, dimensions):
    images, labels = batch(dimensions=dimensions)
    moved, moved_labels = augmented(off, dimensions=dimensions)
    assert (moved - images).abs().max() < 1e-4
    for name, label in labels.items():
        assert torch.equal(moved_labels[name], label)


@BOTH
def test_a_seed_gives_the_same_batch_and_another_seed_another(dimensions):
    first, again, other = (augmented(ALWAYS, seed, dimensions) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])
    assert not torch.equal(first[0], other[0])


@BOTH
def test_samples_of_a_batch_differ(dimensions):
    moved, _ = augmented(ALWAYS, dimensions=dimensions)
    assert all(not torch.equal(moved[0], sample) for sample in moved[1:])


@pytest.mark.parametrize("shape", [(8, 2, 16, 16), (8, 2, 16, 16, 8)])
def test_every_parameter_differs_between_samples(shape):
    drawn = vars(draw(shape, ALWAYS, torch.Generator().manual_seed(0)))
    alike = [name for name, value in drawn.items() if (value == value[:1]).all()]
    assert not alike


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_labels_stay_labels(seed, dimensions):
    images, labels = augmented(ALWAYS, seed, dimensions)
    assert torch.isfinite(images).all()
    assert set(labels["lesions"].unique().tolist()) <= {0, 1}
    assert set(labels["regions"].unique().tolist()) <= {0, 4, 21}
    assert all(label.dtype == torch.uint8 for label in labels.values())
    assert torch.equal(labels["regions"], labels["regions_skeleton"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_share_of_changed_samples_is_the_probability(seed, probability):
    generator = torch.Generator().manual_seed(seed)
    drawn = draw((400, 2, 16, 16), Augmentation(probability=probability), generator)
    share = (drawn.gamma != 1).float().mean().item()
    assert share == pytest.approx(probability, abs=0.1)


def test_inputs_are_left_as_they_are():
    images, labels = batch()
    before, before_labels = images.clone(), {name: label.clone() for name, label in labels.items()}
    apply(images, labels, draw(tuple(images.shape), ALWAYS, torch.Generator().manual_seed(0)))
    assert torch.equal(images, before)
    assert all(torch.equal(labels[name], before_labels[name]) for name in labels)


def spectrum(images: torch.Tensor, axis: int) -> torch.Tensor:
    """Largest magnitude of each frequency along an axis."""
    others = [other for other in range(images.ndim) if other != axis]
    return torch.fft.rfft(images, dim=axis).abs().amax(dim=others)


def smooth_blobs(shape=(1, 1, 32, 48)) -> torch.Tensor:
    """A bright image without sharp edges, so that nothing rings below zero."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return 5 + torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, *[1.0] * (len(shape) - 2))))


def test_background_stays_dark():
    """Contrast, gain and gamma leave the background at zero, but for rounding."""
    changed = {"contrast": (0.5, 0.5), "gamma": (2.0, 2.0), "bias_field": 0.3}
    moved, _ = augmented(NOTHING.model_copy(update=changed))
    assert moved[:, :, :4, :4].abs().max() < 1e-12


@BOTH
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


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_image_and_label_move_together(seed, dimensions):
    moving = NOTHING.model_copy(
        update={"rotation_degrees": 25.0, "scaling": (0.7, 1.4), "mirroring": True, "elastic": 0.05}
    )
    moved, labels = augmented(moving, seed, dimensions)
    lesion = labels["lesions"] == 1
    assert lesion.any()
    assert (((moved[:, 0] > 1.5) == lesion).float().mean()) > 0.975


@BOTH
def test_mirroring_exchanges_left_and_right_regions(dimensions):
    images, labels = batch(2, dimensions)
    drawn = nothing_drawn(images.shape)
    drawn.mirrored = torch.tensor([True, False])
    moved, moved_labels = apply(images, labels, drawn)
    flipped = labels["regions"][0].flip(0)
    exchange = torch.as_tensor(mirror_labels())
    for name in ("regions", "regions_skeleton"):
        assert torch.equal(moved_labels[name][0], exchange[flipped.long()].byte())
        assert torch.equal(moved_labels[name][1], labels["regions"][1])
    assert torch.equal(moved_labels["lesions"][0], labels["lesions"][0].flip(0))
    assert (moved[0] - images[0].flip(1)).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 8)])
def test_rotation_turns_without_shearing(shape):
    """A quarter turn of a centred square in an oblong slice stays a square of the same size."""
    images = torch.zeros(1, 1, *shape)
    images[:, :, 14:34, 22:42] = 1.0
    drawn = nothing_drawn(images.shape)
    drawn.rotation = torch.tensor([torch.pi / 2])
    moved, _ = apply(images, {"lesions": images[:, 0].byte()}, drawn)
    assert (moved - images).abs().max() < 1e-3


def test_a_quarter_turn_takes_one_axis_to_the_other():
    images = torch.zeros(1, 1, 32, 32)
    images[:, :, 4:8, 14:18] = 1.0
    drawn = nothing_drawn(images.shape)
    drawn.rotation = torch.tensor([torch.pi / 2])
    moved, labels = apply(images, {"lesions": images[:, 0].byte()}, drawn)
    assert (moved - torch.rot90(images, 1, (2, 3))).abs().max() < 1e-3
    assert torch.equal(labels["lesions"], torch.rot90(images[:, 0], 1, (1, 2)).byte())


@BOTH
def test_scale_above_one_enlarges(dimensions):
    images, labels = batch(dimensions=dimensions)
    drawn = nothing_drawn(images.shape)
    drawn.scale = torch.full((6,), 1.5)
    _, moved = apply(images, labels, drawn)
    grown = moved["lesions"].sum() / labels["lesions"].sum()
    assert 1.9 < grown < 2.6


def test_an_elastic_field_of_equal_points_shifts():
    """A displacement of a quarter of half the edge, 6 of 48 pixels, at every control point."""
    images, labels = batch(1)
    drawn = nothing_drawn(images.shape)
    drawn.elastic[:, 0] = 0.25
    _, moved = apply(images, labels, drawn)
    assert torch.equal(moved["lesions"][:, :-6], labels["lesions"][:, 6:])


def test_regions_that_are_not_known_stay_so_when_mirrored():
    images, labels = batch(2)
    labels["regions"][0] = 255
    drawn = nothing_drawn(images.shape)
    drawn.mirrored = torch.tensor([True, True])
    _, moved = apply(images, labels, drawn)
    assert (moved["regions"][0] == 255).all()
    assert (moved["regions"][1] < 37).all()


@given(seed=st.integers(0, 2**20))
@settings(max_examples=20, deadline=None)
def test_samples_that_stay_or_are_only_mirrored_keep_every_value(seed):
    images, labels = batch(samples=12)
    rare = NOTHING.model_copy(
        update={"probability": 0.2, "rotation_degrees": 20, "elastic": 0.05, "mirroring": True}
    )
    drawn = draw(tuple(images.shape), rare, torch.Generator().manual_seed(seed))
    moved, moved_labels = apply(images, labels, drawn)
    bent = (drawn.rotation != 0) | (drawn.elastic != 0).flatten(1).any(dim=1)
    for sample in (~bent).nonzero()[:, 0]:
        mirrored = bool(drawn.mirrored[sample])
        expected = images[sample].flip(1) if mirrored else images[sample]
        assert torch.equal(moved[sample], expected)
        lesions = labels["lesions"][sample]
        expected = lesions.flip(0) if mirrored else lesions
        assert torch.equal(moved_labels["lesions"][sample], expected)
    for sample in bent.nonzero()[:, 0]:
        assert not torch.equal(moved[sample], images[sample])
