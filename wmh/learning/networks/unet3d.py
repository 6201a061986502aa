"""The 3-D U-Net of MONAI (Falk et al. 2019), split into encoder and decoder."""

from __future__ import annotations

import torch
from monai.networks.nets import BasicUNet
from torch import nn

from wmh.learning.networks.encoder_decoders import CLASSES, Decoder, Parts


def parts(dimensions: int, channels: int, width: int, structures: tuple[str, ...]) -> Parts:
    """Five levels of ``width`` times 1, 1, 2, 4 and 8 channels."""
    features = tuple(width * factor for factor in (1, 1, 2, 4, 8, 1))
    networks = {
        structure: BasicUNet(dimensions, channels, CLASSES[structure], features)
        for structure in structures
    }
    encoder = Encoder(networks[structures[0]])
    return encoder, {
        structure: Decoder(
            (unet.upcat_4, unet.upcat_3, unet.upcat_2, unet.upcat_1), unet.final_conv
        )
        for structure, unet in networks.items()
    }


class Encoder(nn.Module):
    """The levels of the U-Net on the way down."""

    def __init__(self, unet: BasicUNet):
        super().__init__()
        levels = unet.conv_0, unet.down_1, unet.down_2, unet.down_3, unet.down_4
        self.levels = nn.ModuleList(levels)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each level, the finest first."""
        features = [images]
        for level in self.levels:
            features.append(level(features[-1]))
        return features[1:]
