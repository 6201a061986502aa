"""Every architecture, in 2-D and 3-D, for every task and number of channels, on tiny images."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn.modules.batchnorm import _BatchNorm

from wmh.learning.losses import loss_of
from wmh.learning.networks.build import build_network, parts_of, to_device
from wmh.learning.networks.encoder_decoders import CLASSES, STRUCTURES
from wmh.settings import LossSettings, NetworkSettings

ARCHITECTURES = ("unet", "unetr", "mednext", "multiresunet")
SIZES = {2: (32, 48), 3: (32, 16, 16)}


def tiny(architecture: str, dimensions: int) -> NetworkSettings:
    return NetworkSettings(
        architecture=architecture,
        dimensions=dimensions,
        width=4,
        encoder="resnet18",
        depth=3,
        decoder_channels=(16, 8, 8),
    )


def where(samples: int, dimensions: int) -> torch.Tensor:
    """Slices 60 mm below the crown, or patches from -1 to about 1 along each axis."""
    if dimensions == 2:
        return torch.full((samples,), 60.0)
    return torch.tensor([-1.0, 1 / 16]).expand(samples, 3, 2)


def tiny_batch(channels: int, dimensions: int, task: str):
    torch.manual_seed(0)
    size = SIZES[dimensions]
    images = torch.rand(2, channels, *size)
    labels = {
        "lesions": (images[:, 0] > 0.7).byte(),
        "regions": (images[:, 0] * 37).byte(),
    }
    return images, where(2, dimensions), {name: labels[name] for name in STRUCTURES[task]}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", STRUCTURES)
@pytest.mark.parametrize("channels", [1, 2])
def test_logits_have_the_input_size_and_one_step_lowers_the_loss(
    architecture, dimensions, task, channels
):
    images, place, labels = tiny_batch(channels, dimensions, task)
    network = to_device(build_network(tiny(architecture, dimensions), channels, task), "cpu")
    optimiser = torch.optim.SGD(network.train().parameters(), lr=0.01)
    logits = network(images, place)
    before = loss_of(logits, labels, LossSettings())
    before.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    assert {name: scores.shape for name, scores in logits.items()} == {
        name: (2, CLASSES[name], *SIZES[dimensions]) for name in STRUCTURES[task]
    }
    assert loss_of(network(images, place), labels, LossSettings()) < before
    if architecture != "unet" or dimensions == 3:  # others' encoders have a deepest block unused
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES[1:])
def test_the_multitask_network_shares_its_encoder_and_nothing_else(architecture, dimensions):
    networks = {task: build_network(tiny(architecture, dimensions), 1, task) for task in STRUCTURES}
    count = {task: sum(p.numel() for p in n.parameters()) for task, n in networks.items()}
    apart = sum(p.numel() for p in networks["lesions"].decoders.parameters())
    assert count["multitask"] == count["regions"] + apart


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_of_several_sizes_go_through_one_network(architecture, dimensions):
    network = build_network(tiny(architecture, dimensions), 1, "lesions").eval()
    with torch.inference_mode():
        for size in (SIZES[dimensions], (64, 32, 16)[:dimensions]):
            images = torch.rand(1, 1, *size)
            assert network(images, where(1, dimensions))["lesions"].shape == (1, 2, *size)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(40, 32), (33, 57), (8, 24)])
def test_a_size_that_does_not_halve_is_answered_all_the_same(architecture, size):
    network = build_network(tiny(architecture, 2), 1, "multitask").eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, 1, *size), where(2, 2))
    assert {name: scores.shape for name, scores in logits.items()} == {
        name: (2, CLASSES[name], *size) for name in STRUCTURES["multitask"]
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES[1:])
def test_a_size_of_which_one_pixel_is_left_is_refused_in_one_line(architecture):
    network = build_network(tiny(architecture, 2), 1, "lesions")
    with pytest.raises(ValueError, match=r"^images of \(16, 8\) pixels are too small"):
        network(torch.rand(1, 1, 16, 8), where(1, 2))


@pytest.mark.parametrize("patch", [(40, 32, 16), (16, 16, 16), (0, 32, 32)])
def test_a_patch_that_does_not_halve_is_refused_in_the_settings(patch):
    with pytest.raises(ValidationError, match=r"patch_size"):
        NetworkSettings(dimensions=3, patch_size=patch)


def test_only_networks_that_predict_regions_look_at_the_place_of_a_patch():
    images, place, _ = tiny_batch(1, 3, "multitask")
    for task in STRUCTURES:
        network = build_network(tiny("multiresunet", 3), 1, task).eval()
        with torch.inference_mode():
            first, second = network(images, place), network(images, -place)
        same = all(torch.equal(first[name], second[name]) for name in first)
        assert same == (task == "lesions")


def test_the_transformers_positions_follow_the_image():
    """At the size they were learned at, positions are added as they are."""
    encoder = build_network(tiny("unetr", 2), 1, "lesions").encoder
    seen = []
    encoder.layers[0].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.inference_mode():
        encoder(torch.zeros(1, 1, 128, 128))
    bias = encoder.embed.bias[:, None, None]
    expected = (encoder.positions + bias).flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen[0], expected)


def test_unetr_has_about_the_published_parameters():
    """92.58 million (table 3 of the paper); ours has 8 x 8 x 8 positions for 6 x 6 x 6."""
    settings = NetworkSettings(architecture="unetr", dimensions=3)
    with torch.device("meta"):
        network = build_network(settings, 1, "lesions")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(92.58e6, rel=0.006)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_network_keeps_statistics_of_whom_it_learned_from(architecture, dimensions):
    network = build_network(tiny(architecture, dimensions), 1, "lesions")
    assert not [name for name in network.state_dict() if "running" in name or "tracked" in name]
    by_batch = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    assert bool(by_batch) == (
        architecture == "multiresunet" or (architecture, dimensions) == ("unet", 2)
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_belongs_to_a_part(dimensions):
    settings = NetworkSettings(dimensions=dimensions, depth=3, decoder_channels=[16, 8, 8])
    network = build_network(settings, 2, "multitask")
    table = parts_of(network)["parameters"]
    assert table["all"] == sum(p.numel() for p in network.parameters()) == table[:-1].sum()
    assert {"encoder", "decoders for lesions", "decoders for regions"} <= set(table.index)
