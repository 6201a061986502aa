import pytest
import torch

from tests.learning.augment.conftest import NOTHING, augmented, batch, nothing_drawn
from wmh.atlas.regions import mirror_labels
from wmh.learning.augment import apply


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_image_and_label_move_together(seed, dimensions):
    moving = NOTHING.model_copy(
        update={"rotation_degrees": 25.0, "scaling": (0.7, 1.4), "mirroring": True, "elastic": 0.05}
    )
    moved, labels = augmented(moving, seed, dimensions)
    lesion = labels["lesions"] == 1
    assert lesion.any()
    assert (((moved[:, 0] > 1.5) == lesion).float().mean()) > 0.975


@pytest.mark.parametrize("dimensions", [2, 3])
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


@pytest.mark.parametrize("dimensions", [2, 3])
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
