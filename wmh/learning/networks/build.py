"""Build the network that a study's settings describe."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wmh.learning.networks.encoder_decoders import EncoderDecoders, Parts, input_channels
from wmh.learning.networks.prior import WithRegionPrior
from wmh.learning.networks.structures import STRUCTURES
from wmh.learning.networks.unet import SharedEncoder
from wmh.settings import NetworkSettings


def build_network(settings: NetworkSettings, channels: int, task: str) -> nn.Module:
    """Build the network of a task for a number of input channels, with random weights.

    It takes images (B, channels, ...) and where they lie, and gives logits (B, classes, ...) for
    each structure of the task.
    """
    structures = STRUCTURES[task]
    if settings.architecture == "unet" and settings.dimensions == 2:
        network = SharedEncoder(settings, channels, structures)
    else:
        network = EncoderDecoders(_parts(settings, channels, structures), structures)
    if settings.dimensions == 2 and "regions" in structures:
        network = WithRegionPrior(network)
    return normalise_by_batch(network)


def to_device(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network; 2-D convolutions are fastest with channels last."""
    if any(parameter.ndim == 5 for parameter in network.parameters()):
        return network.to(device)
    return network.to(device, memory_format=torch.channels_last)


def normalise_by_batch(network: nn.Module) -> nn.Module:
    """Have batch normalisation use the batch at hand always, in training and after.

    A batch is one person's slices. Scanners differ in more than gain; statistics learned on those
    of the training subjects would not fit another (adaptive batch normalisation; Li et al. 2017).
    """
    for layer in batch_norms(network):
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return network


def batch_norms(network: nn.Module) -> Iterator[nn.Module]:
    """A network's batch normalisation layers; UNETR, MedNeXt and the 3-D U-Net have none."""
    return (layer for layer in network.modules() if isinstance(layer, _BatchNorm))


def _parts(settings: NetworkSettings, channels: int, structures: tuple[str, ...]) -> Parts:
    """Encoder and decoders. MONAI takes seconds to import, so only who needs it waits."""
    match settings.architecture:
        case "unet":
            from wmh.learning.networks.unet3d import parts
        case "unetr":
            from wmh.learning.networks.unetr import parts
        case "mednext":
            from wmh.learning.networks.mednext import parts
        case "multiresunet":
            from wmh.learning.networks.multiresunet import parts
    channels = input_channels(channels, structures)
    return parts(settings.dimensions, channels, settings.width, structures)
