"""MedNeXt's parts compute what MONAI's whole does, on any processor."""

import copy

import pytest
import torch
from monai.networks.nets import MedNeXt

from wmh.learning.networks.mednext import Encoder


@pytest.mark.parametrize("dimensions", [2, 3])
def test_halving_is_monais(dimensions):
    torch.manual_seed(0)
    network = MedNeXt(dimensions, 4, 1, 1, kernel_size=3, use_residual_connection=True)
    encoder = Encoder(copy.deepcopy(network))
    images = torch.randn(1, 4, *(9,) * dimensions)
    halve, ours = network.down_blocks[0], encoder.halvings[0]
    assert torch.allclose(ours(images), halve(images), atol=1e-5)


def test_few_channels_last_have_the_gradients_they_have_without_onednn():
    torch.manual_seed(0)
    network = MedNeXt(2, 8, 1, 1, kernel_size=3, use_residual_connection=True)
    halve = Encoder(network).halvings[0].to(memory_format=torch.channels_last)
    images = torch.randn(4, 8, 64, 64).contiguous(memory_format=torch.channels_last)
    gradients = []
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled):
            halve(images).square().mean().backward()
        gradients.append(halve.res_conv.weight.grad.clone())
        halve.zero_grad()
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5)
