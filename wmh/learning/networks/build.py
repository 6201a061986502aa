"""Build the network that a study's settings describe."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from wmh.learning.networks.encoder_decoders import STRUCTURES, EncoderDecoders, Parts
from wmh.learning.networks.normalisation import normalise_by_batch
from wmh.learning.networks.place import PLACE_CHANNELS
from wmh.learning.networks.prior import WithRegionPrior
from wmh.learning.networks.unet import SharedEncoder
from wmh.settings import NetworkSettings


def build_network(settings: NetworkSettings, channels: int, task: str) -> nn.Module:
    """Build the network of a task for a number of input channels, with random weights.

    The network maps images (B, channels, ...) and their position to logits (B, classes, ...) for
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


def parts_of(network: nn.Module) -> pd.DataFrame:
    """The number of parameters of a network: one row per part, and a last row for all."""
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        words = name.removeprefix("network.").split(".")
        part = " for ".join(words[:2]) if words[0] in ("decoders", "heads") else words[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    counts["all"] = sum(counts.values())
    return pd.DataFrame({"parameters": counts}).rename_axis("part")


def to_device(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network to a device; 2-D convolutions are fastest with channels last."""
    if any(parameter.ndim == 5 for parameter in network.parameters()):
        return network.to(device)
    return network.to(device, memory_format=torch.channels_last)


def _parts(settings: NetworkSettings, channels: int, structures: tuple[str, ...]) -> Parts:
    """Encoder and decoders. Imported only when needed, because importing MONAI takes seconds."""
    match settings.architecture:
        case "unet":
            from wmh.learning.networks.unet3d import parts
        case "unetr":
            from wmh.learning.networks.unetr import parts
        case "mednext":
            from wmh.learning.networks.mednext import parts
        case "multiresunet":
            from wmh.learning.networks.multiresunet import parts
    channels += PLACE_CHANNELS * ("regions" in structures)
    return parts(settings.dimensions, channels, settings.width, structures)
