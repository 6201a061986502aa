"""The 3-D U-Net of MONAI (Falk et al. 2019), taken apart into encoder and decoder."""

from __future__ import annotations

import torch
from monai.networks.nets import BasicUNet
from torch import nn

from wmh.learning.networks.encoder_decoders import CLASSES, Parts


def parts(dimensions: int, channels: int, width: int, structures: tuple[str, ...]) -> Parts:
    """Five levels of ``width`` times 1, 1, 2, 4 and 8 channels."""
    features = tuple(width * factor for factor in (1, 1, 2, 4, 8, 1))
    networks = {
        structure: BasicUNet(dimensions, channels, CLASSES[structure], features)
        for structure in structures
    }
    encoder = Encoder(networks[structures[0]])
    return encoder, {structure: Decoder(network) for structure, network in networks.items()}


class Encoder(nn.Module):
    """The way down."""

    def __init__(self, network: BasicUNet):
        super().__init__()
        levels = ("conv_0", "down_1", "down_2", "down_3", "down_4")
        self.levels = nn.ModuleList(getattr(network, name) for name in levels)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each level, the finest first."""
        features = [images]
        for level in self.levels:
            features.append(level(features[-1]))
        return features[1:]


class Decoder(nn.Module):
    """The way up, and the head."""

    def __init__(self, network: BasicUNet):
        super().__init__()
        levels = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")
        self.levels = nn.ModuleList(getattr(network, name) for name in levels)
        self.head = network.final_conv

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """From the features of each level to logits."""
        *finer, scores = features
        for level, skipped in zip(self.levels, reversed(finer), strict=True):
            scores = level(scores, skipped)
        return self.head(scores)
