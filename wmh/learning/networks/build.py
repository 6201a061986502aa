"""Build the network that a study's settings describe."""

from __future__ import annotations

from torch import nn

from wmh.learning.networks.structures import STRUCTURES
from wmh.learning.networks.unet import SharedEncoder
from wmh.study import NetworkSettings


def build_network(settings: NetworkSettings, channels: int, task: str) -> nn.Module:
    """Build the network of a task for a number of input channels, with random weights."""
    return SharedEncoder(settings, channels, STRUCTURES[task])


def normalise_by_batch(network: nn.Module) -> nn.Module:
    """Set a network to predict, its batch normalisation still by the batch at hand."""
    network.eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    return network
