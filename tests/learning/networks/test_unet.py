import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder

from wmh.encoders import nearest_encoders
from wmh.learning.losses import loss_of
from wmh.learning.networks.build import build_network
from wmh.learning.networks.encoder_decoders import CLASSES, STRUCTURES
from wmh.learning.networks.place import fine_place, place
from wmh.learning.networks.unet import BLOCKS, Decoder, Join, RegionHead, build_encoder
from wmh.settings import LossSettings, NetworkSettings

SMALL = NetworkSettings(encoder="resnet18", depth=4, decoder_channels=(32, 16, 16, 8))


CLOSE = {"rtol": 1e-3, "atol": 1e-3}
DEPTH = torch.tensor([0.0, 30.0, 75.0, 150.0])


@pytest.mark.parametrize("task", STRUCTURES)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_task_and_channel_count_gives_logits_of_the_input_size(task, channels):
    network = build_network(SMALL, channels, task).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, channels, 64, 96), torch.zeros(2))
    assert set(logits) == set(STRUCTURES[task])
    for structure, scores in logits.items():
        assert scores.shape == (2, CLASSES[structure], 64, 96)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "efficientnet-b0", "tu-regnetx_002"])
def test_encoders_of_other_families_do_as_well(encoder):
    network = build_network(SMALL.model_copy(update={"encoder": encoder}), 2, "multitask")
    logits = network(torch.rand(2, 2, 64, 96), torch.zeros(2))
    assert {name: scores.shape for name, scores in logits.items()} == {
        name: (2, CLASSES[name], 64, 96) for name in STRUCTURES["multitask"]
    }
    assert not [name for name in network.state_dict() if "running" in name]


def test_the_names_of_all_encoders_are_known():
    import segmentation_models_pytorch as smp
    import timm

    names = [*smp.encoders.encoders, *(f"tu-{name}" for name in timm.list_models())]
    assert [name for name in names if nearest_encoders(name)] == []
    assert nearest_encoders("resnet81")


def test_a_studys_networks_step_without_the_libraries_of_encoders():
    code = """
import sys
for library in ("segmentation_models_pytorch", "timm", "torchvision", "monai"):
    sys.modules[library] = None  # as if it was not installed
import torch
import wmh.analysis.testing
import wmh.learning.training
from wmh.learning.networks.build import build_network
from wmh.learning.optimiser import build_optimiser
from wmh.study import load_study
training = load_study("paper").training
network = build_network(training.network, 2, "multitask")
optimiser = build_optimiser(network, torch.nn.ParameterDict(), training)
logits = network(torch.rand(2, 2, 32, 32), torch.zeros(2))
sum(scores.square().mean() for scores in logits.values()).backward()
optimiser.step()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_step_lowers_the_loss():
    torch.manual_seed(0)
    network = build_network(SMALL, 1, "multitask").train()
    images = torch.rand(4, 1, 32, 32)
    labels = {
        "lesions": (images[:, 0] > 0.7).byte(),
        "regions": torch.randint(0, 37, (4, 32, 32), dtype=torch.uint8),
    }
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    before = loss_of(network(images, DEPTH), labels, LossSettings())
    before.backward()
    optimiser.step()
    assert loss_of(network(images, DEPTH), labels, LossSettings()) < before


def test_the_multitask_network_shares_its_encoder_and_nothing_else():
    count = {
        task: sum(p.numel() for p in build_network(SMALL, 1, task).parameters())
        for task in STRUCTURES
    }
    lesions = build_network(SMALL, 1, "lesions")
    apart = [*lesions.decoders.parameters(), *lesions.heads.parameters()]
    assert count["multitask"] == count["regions"] + sum(p.numel() for p in apart)


def test_a_scanners_gain_changes_nothing():
    """Normalised by the slices at hand, in evaluation too: statistics of others would not fit."""
    torch.manual_seed(0)
    network = build_network(SMALL, 1, "lesions").eval()
    images = 50 + 50 * torch.rand(4, 1, 32, 32)
    with torch.inference_mode():
        expected = network(images, DEPTH)["lesions"]
        torch.testing.assert_close(network(7 * images, DEPTH)["lesions"], expected, **CLOSE)


def test_place_tells_right_from_left_and_high_from_low():
    where = place(torch.zeros(4, 1, 32, 64), DEPTH)
    assert where.shape == (4, 3, 32, 64)
    torch.testing.assert_close(where[:, 0], -where[:, 0].flip(1))
    torch.testing.assert_close(where[:, 1], -where[:, 1].flip(2))
    assert where[:, 2, 0, 0].tolist() == pytest.approx([-1, -0.6, 0, 1])


def test_only_networks_that_predict_regions_look_at_the_place():
    torch.manual_seed(0)
    images = torch.rand(4, 1, 32, 32)
    with torch.inference_mode():
        for task in STRUCTURES:
            network = build_network(SMALL, 1, task).eval()
            first, second = (network(images, depth) for depth in (DEPTH, DEPTH.flip(0)))
            same = all(torch.equal(first[k], second[k]) for k in first)
            assert same == (task == "lesions")


def test_the_finer_place_turns_ever_faster():
    where = torch.tensor([0.5, -1.0, 1.0])[None, :, None, None]
    fine = fine_place(where)[0, :, 0, 0].view(7, 3)
    assert fine[0].tolist() == [0.5, -1.0, 1.0]
    root = 2**-0.5
    expected = [[root, -1, 1], [root, 0, 0], [1, 0, 0], [0, -1, -1], [0, 0, 0], [-1, 1, 1]]
    torch.testing.assert_close(fine[1:], torch.tensor(expected), atol=1e-6, rtol=0)


def test_regions_are_told_apart_by_place_where_the_image_shows_nothing():
    """The border lies in the middle of a blank slice; the place alone says where."""
    torch.manual_seed(0)
    head = RegionHead(4)
    features, where = torch.zeros(2, 4, 16, 16), place(torch.zeros(2, 1, 16, 16), torch.zeros(2))
    truth = (torch.arange(16) >= 8).long().expand(2, 16, 16)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(head(features, where), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(head(features, where).argmax(dim=1), truth)


IMAGES = torch.rand(2, 5, 48, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "depth"), [("resnet18", 3), ("resnet18", 4), ("resnet34", 5)])
def test_an_encoder_answers_as_the_librarys(name, depth):
    assert name in BLOCKS
    theirs = get_encoder(name, in_channels=5, depth=depth, weights=None)
    ours = build_encoder(name, 5, depth)
    weights = theirs.state_dict()
    ours.load_state_dict({layer: weights[layer] for layer in ours.state_dict()})
    found, expected = ours(IMAGES), theirs(IMAGES)
    assert len(found) == len(expected) == depth + 1
    assert ours.out_channels == list(theirs.out_channels)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not any(layer.startswith(f"layer{depth}") for layer in ours.state_dict())


def test_a_decoder_answers_as_the_librarys():
    encoder, channels = build_encoder("resnet18", 5, 3), (24, 16, 8)
    theirs, ours = (
        UnetDecoder(encoder.out_channels, channels, 3),
        Decoder(encoder.out_channels, channels),
    )
    ours.load_state_dict(theirs.state_dict())
    features = encoder(IMAGES)
    torch.testing.assert_close(ours(features), theirs(features))


def test_a_decoder_of_one_level_less_ends_at_half_resolution_and_is_enlarged():
    encoder = build_encoder("resnet18", 5, 3)
    whole = Decoder(encoder.out_channels, (24, 16, 8))
    half = Decoder(encoder.out_channels, (24, 16))
    half.load_state_dict(whole.state_dict(), strict=False)
    features = encoder(IMAGES)
    found = half(features)
    whole.blocks[-1] = torch.nn.Identity()  # what it is given: the half, enlarged
    assert found.shape == (2, 16, 48, 32)
    torch.testing.assert_close(found, whole(features))


def test_with_such_a_decoder_lesions_of_one_pixel_are_still_told_apart():
    torch.manual_seed(0)
    settings = NetworkSettings(encoder="resnet18", depth=3, decoder_channels=(16, 8))
    network = build_network(settings, 1, "lesions").train()
    images, depth_mm = torch.rand(2, 1, 37, 50), torch.zeros(2)
    truth = {"lesions": (images[:, 0] > 0.9).byte()}
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        loss = loss_of(network(images, depth_mm), truth, LossSettings())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = network(images, depth_mm)["lesions"].argmax(dim=1)
    assert (found == truth["lesions"]).float().mean() > 0.98


@pytest.mark.parametrize("channels", [(32,), (32, 16, 16, 16)])
def test_a_decoder_has_a_number_per_level_or_one_less(channels):
    with pytest.raises(ValidationError, match=r"decoder_channels must hold 3 numbers.*or 2"):
        NetworkSettings(depth=3, decoder_channels=channels)


def test_joined_features_are_those_of_cat_and_their_gradients_are_contiguous():
    layout = {"memory_format": torch.channels_last}
    one, other, gradient = (torch.randn(2, n, 4, 5).contiguous(**layout) for n in (3, 2, 5))
    one.requires_grad_(), other.requires_grad_()
    joined = Join.apply(one, other)
    torch.testing.assert_close(joined, torch.cat([one, other], dim=1), rtol=0, atol=0)
    found = torch.autograd.grad(joined, (one, other), gradient)
    for mine, expected in zip(found, gradient.split([3, 2], dim=1), strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)
        assert mine.is_contiguous(**layout) and not expected.is_contiguous(**layout)
