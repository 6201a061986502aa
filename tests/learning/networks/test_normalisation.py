from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from segmentation_models_pytorch.encoders import get_encoder

from wmh.learning.networks.build import build_network
from wmh.learning.networks.normalisation import (
    PersonNorm,
    middle_of_head,
    normalise_by_batch,
    statistics_from,
)
from wmh.learning.volumes import logits_of_slices
from wmh.settings import NetworkSettings

SMALL = NetworkSettings(depth=3, decoder_channels=(16, 8, 8))
FEATURES = torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
FIRST_TWO = slice(0, 2)


def norm() -> PersonNorm:
    layer = torch.nn.BatchNorm2d(3)
    torch.nn.init.uniform_(layer.weight)
    torch.nn.init.uniform_(layer.bias)
    return PersonNorm(layer)


def test_it_is_batch_normalisation_where_no_slice_is_chosen_and_where_all_are():
    layer = norm()
    expected = torch.nn.functional.batch_norm(
        FEATURES, None, None, layer.weight, layer.bias, training=True
    )
    torch.testing.assert_close(layer(FEATURES), expected)
    with statistics_from(slice(None)):
        torch.testing.assert_close(layer(FEATURES), expected)


def test_the_chosen_slices_look_as_if_there_were_no_others():
    layer = norm()
    with statistics_from(FIRST_TWO):
        among_others = layer(FEATURES)
    torch.testing.assert_close(among_others[:2], layer(FEATURES[:2]))
    with statistics_from(FIRST_TWO):
        again = layer(torch.cat([FEATURES[:2], FEATURES[2:] * 9]))
    torch.testing.assert_close(again[:2], among_others[:2])
    assert not torch.allclose(again[2:], among_others[2:])


def test_what_is_chosen_holds_inside_only_and_in_its_own_thread():
    layer = norm()
    plain = layer(FEATURES)
    with pytest.raises(KeyError), statistics_from(FIRST_TWO):
        with ThreadPoolExecutor(1) as pool:
            torch.testing.assert_close(pool.submit(layer, FEATURES).result(), plain)
        raise KeyError
    torch.testing.assert_close(layer(FEATURES), plain)


@pytest.mark.parametrize(
    ("depth_mm", "inside"),
    [
        ([130.0, 120.0, 60.0, 10.0, 0.0], slice(1, 4)),
        ([8.0, 4.0, 0.0], slice(None)),
    ],
)
def test_the_middle_of_the_head_is_told_by_the_depth_below_the_crown(depth_mm, inside):
    assert middle_of_head(torch.tensor(depth_mm)) == inside


def test_only_slices_that_show_all_images_count_for_the_middle():
    depth_mm = torch.tensor([90.0, 60.0, 30.0, 0.0])
    assert middle_of_head(depth_mm, torch.tensor([False, True, True, True])) == slice(1, 3)
    apart = middle_of_head(depth_mm, torch.tensor([True, False, True, True]))
    assert apart.tolist() == [0, 2]


def test_a_noisy_neck_does_not_change_what_is_said_of_the_middle():
    torch.manual_seed(0)
    network = build_network(SMALL, 1, "lesions").eval()
    depth_mm = torch.arange(11, -1, -1) * 12.0
    images = torch.rand(12, 1, 32, 32)
    noisy = torch.where((depth_mm > 120)[:, None, None, None], images * 4, images)
    assert not torch.equal(noisy, images)
    middle = middle_of_head(depth_mm)
    with torch.inference_mode():
        calm, loud = (
            logits_of_slices(network, x, depth_mm, SMALL)["lesions"] for x in (images, noisy)
        )
        torch.testing.assert_close(calm[middle], loud[middle])
        assert not torch.allclose(network(images, depth_mm)["lesions"][middle], calm[middle])


@pytest.mark.parametrize("name", ["resnet18", "tu-regnetx_002", "tu-mobilenetv3_small_050"])
def test_nothing_that_an_encoder_does_beside_normalising_is_lost(name):
    """Some encoders' normalisation layers hold the activation that follows them."""
    encoder = get_encoder(name, in_channels=1, depth=3, weights=None).train()
    images = torch.rand(2, 1, 64, 64)
    before = encoder(images)
    for one, other in zip(before, normalise_by_batch(encoder)(images), strict=True):
        torch.testing.assert_close(one, other)
