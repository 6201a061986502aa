import pytest
import torch

from wmh.atlas.regions import mirror_labels
from wmh.learning.augment import apply, draw
from wmh.study import Augmentation

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
)
ALWAYS = Augmentation(probability=1.0)


def batch(samples: int = 6) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Heads of value 1 with a bright lesion, and regions on both sides of the first axis."""
    images = torch.zeros(samples, 2, 48, 64)
    images[:, :, 8:40, 8:56] = 1.0
    lesions = torch.zeros(samples, 48, 64, dtype=torch.uint8)
    lesions[:, 14:22, 20:32] = 1
    images[lesions[:, None].expand_as(images) == 1] = 2.0
    regions = torch.zeros(samples, 48, 64, dtype=torch.uint8)
    regions[:, 8:24, 8:56], regions[:, 24:40, 8:56] = 4, 21
    return images, {"lesions": lesions, "regions": regions}


def augmented(settings: Augmentation, seed: int = 0):
    images, labels = batch()
    drawn = draw(tuple(images.shape), settings, torch.Generator().manual_seed(seed))
    return apply(images, labels, drawn)


def test_zero_strength_changes_nothing():
    images, labels = batch()
    moved, moved_labels = augmented(NOTHING)
    assert (moved - images).abs().max() < 1e-4
    for name, label in labels.items():
        assert torch.equal(moved_labels[name], label)


def test_probability_zero_changes_nothing():
    images, labels = batch()
    moved, moved_labels = augmented(Augmentation(probability=0.0, mirroring=False))
    assert (moved - images).abs().max() < 1e-4
    assert torch.equal(moved_labels["lesions"], labels["lesions"])


def test_a_seed_gives_the_same_batch_and_another_seed_another():
    first, again, other = augmented(ALWAYS, 1), augmented(ALWAYS, 1), augmented(ALWAYS, 2)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


def test_samples_of_a_batch_differ():
    moved, _ = augmented(ALWAYS)
    assert all(not torch.equal(moved[0], sample) for sample in moved[1:])


@pytest.mark.parametrize("seed", range(5))
def test_labels_stay_labels(seed):
    _, labels = augmented(ALWAYS, seed)
    assert set(labels["lesions"].unique().tolist()) <= {0, 1}
    assert set(labels["regions"].unique().tolist()) <= {0, 4, 21}
    assert labels["lesions"].dtype == torch.uint8


@pytest.mark.parametrize("seed", range(5))
def test_image_and_label_move_together(seed):
    moving = NOTHING.model_copy(
        update={"rotation_degrees": 25.0, "scaling": (0.7, 1.4), "mirroring": True, "elastic": 0.05}
    )
    moved, labels = augmented(moving, seed)
    lesion = labels["lesions"] == 1
    assert lesion.any()
    assert (((moved[:, 0] > 1.5) == lesion).float().mean()) > 0.98


def test_mirroring_exchanges_left_and_right_regions():
    images, labels = batch(2)
    drawn = draw(tuple(images.shape), NOTHING, torch.Generator().manual_seed(0))
    drawn.mirrored = torch.tensor([True, False])
    moved, moved_labels = apply(images, labels, drawn)
    flipped = labels["regions"][0].flip(0)
    exchange = torch.as_tensor(mirror_labels())
    assert torch.equal(moved_labels["regions"][0], exchange[flipped.long()].byte())
    assert torch.equal(moved_labels["regions"][1], labels["regions"][1])
    assert (moved[0] - images[0].flip(1)).abs().max() < 1e-4


def test_rotation_turns_a_slice_without_shearing_it():
    """A quarter turn of a centred square in an oblong slice stays a square of the same size."""
    images = torch.zeros(1, 1, 48, 64)
    images[:, :, 14:34, 22:42] = 1.0
    labels = {"lesions": images[:, 0].byte()}
    drawn = draw((1, 1, 48, 64), NOTHING, torch.Generator().manual_seed(0))
    drawn.rotation = torch.tensor([torch.pi / 2])
    moved, _ = apply(images, labels, drawn)
    assert (moved - images).abs().max() < 1e-3


def test_scale_above_one_enlarges():
    drawn = draw((6, 2, 48, 64), NOTHING, torch.Generator().manual_seed(0))
    drawn.scale = torch.full((6,), 1.5)
    images, labels = batch()
    _, moved = apply(images, labels, drawn)
    grown = moved["lesions"].sum() / labels["lesions"].sum()
    assert 1.9 < grown < 2.6


def test_background_stays_dark():
    """Contrast, gain and gamma leave the background at zero."""
    settings = NOTHING.model_copy(
        update={"contrast": (0.5, 0.5), "gamma": (2.0, 2.0), "bias_field": 0.3}
    )
    moved, _ = augmented(settings)
    assert moved[:, :, :4, :4].abs().max() == 0
