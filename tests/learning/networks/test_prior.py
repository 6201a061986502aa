import pytest
import torch
from torch import nn

from wmh.learning.networks.build import build_network
from wmh.learning.networks.prior import WithRegionPrior
from wmh.settings import NetworkSettings

SMALL = NetworkSettings(encoder="resnet18", depth=3, decoder_channels=(16, 8, 8))


class Silent(nn.Module):
    """A network that the image tells nothing."""

    def forward(self, images, depth_mm):
        return {"regions": torch.zeros(len(images), 37, *images.shape[2:])}


def halves(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices 12 mm apart: 3 left and 20 right in the lower ones, 5 and 22 in the upper."""
    labels = torch.zeros(count, 64, 96, dtype=torch.uint8)
    depth_mm = torch.arange(count) * 12.0
    labels[depth_mm < 48, :32], labels[depth_mm < 48, 32:] = 5, 22
    labels[depth_mm >= 48, :32], labels[depth_mm >= 48, 32:] = 3, 20
    return labels, depth_mm


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (192, 256), (256, 128)])
def test_the_atlas_alone_gives_back_what_it_counted(size):
    labels, depth_mm = halves()
    network = WithRegionPrior(Silent())
    network.fit(labels, depth_mm)
    with torch.inference_mode():
        guess = network(torch.zeros(8, 1, *size), depth_mm)["regions"].argmax(dim=1)
    middle = size[0] // 2
    assert guess.shape == (8, *size)
    inner = slice(size[1] // 2 - 20, size[1] // 2 + 20)
    for expected, at in ((5, 1), (3, 6)):
        assert (guess[at, middle - 24 : middle - 6, inner] == expected).all()
        assert (guess[at, middle + 6 : middle + 24, inner] == expected + 17).all()


def test_before_it_is_fitted_it_says_nothing():
    assert not WithRegionPrior(Silent()).guess(torch.tensor([30.0]), (32, 32)).any()


def test_it_stays_as_it_was_counted_and_rules_nothing_out():
    labels, depth_mm = halves()
    network = WithRegionPrior(Silent())
    network.fit(labels, depth_mm)
    assert torch.isfinite(network.atlas).all()
    assert [name for name, _ in network.named_parameters()] == []
    assert list(network.state_dict()) == ["atlas"]


def test_a_region_that_no_subject_has_is_unlikely_but_not_ruled_out():
    labels, depth_mm = halves()
    network = WithRegionPrior(Silent())
    network.fit(labels, depth_mm)
    guess = network.guess(depth_mm, (64, 96)).log_softmax(dim=1)
    seen = [3, 5, 20, 22]
    unseen = [label for label in range(37) if label not in seen]
    assert guess.isfinite().all()
    assert guess.argmax(dim=1).unique().tolist() == seen
    assert guess[:, unseen].max() < guess[:, seen].amax(dim=1).min()


def test_labels_that_are_missing_altogether_are_counted_as_background():
    network = WithRegionPrior(Silent())
    network.fit(torch.zeros(8, 64, 96, dtype=torch.uint8), torch.arange(8) * 12.0)
    guess = network.guess(torch.tensor([30.0]), (64, 96))
    assert guess.isfinite().all() and not guess.argmax(dim=1).any()


@pytest.mark.parametrize(("task", "has_one"), [("lesions", False), ("regions", True)])
def test_networks_for_slices_that_predict_regions_have_one(task, has_one):
    assert isinstance(build_network(SMALL, 1, task), WithRegionPrior) == has_one


def test_labels_that_are_not_known_count_nothing():
    labels, depth_mm = halves()
    known, all_labels = WithRegionPrior(Silent()), WithRegionPrior(Silent())
    known.fit(labels, depth_mm)
    unknown = torch.full_like(labels, 255)
    all_labels.fit(torch.cat([labels, unknown]), torch.cat([depth_mm, depth_mm]))
    assert torch.equal(known.atlas, all_labels.atlas)


def test_the_likeliest_region_is_drawn_where_there_mostly_is_one():
    network = WithRegionPrior(Silent())
    labels, depth_mm = halves()
    labels[:, :, :48] = 0  # behind, nobody has a region
    network.fit(labels, depth_mm)
    drawn = network.likeliest(depth_mm, (64, 96))
    assert (drawn[:, :, :24] == 0).all()
    assert (drawn[1, 8:24, 72:88] == 5).all() and (drawn[6, 40:56, 72:88] == 20).all()
