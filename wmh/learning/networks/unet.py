"""The 2-D U-Net, with any encoder of segmentation-models-pytorch."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import nn

from wmh.learning.networks.place import place
from wmh.learning.networks.structures import CLASSES
from wmh.study import NetworkSettings

DETAIL_CHANNELS = 16


class SharedEncoder(nn.Module):
    """A U-Net with one encoder and, for each structure, a decoder and a head of its own.

    Encoders halve the slice before their first block, too coarse for lesions of a pixel or two. Two
    convolutions at full resolution therefore bypass the encoder and meet the decoder at the head,
    as the topmost skip connection of the original U-Net does (Ronneberger et al. 2015).

    A network that predicts regions is also told where each pixel lies (Liu et al. 2018): one slice
    alone does not tell left from right or a gyrus from the one above it.
    """

    def __init__(self, settings: NetworkSettings, channels: int, structures: tuple[str, ...]):
        super().__init__()
        self.sees_place = "regions" in structures
        channels += 3 * self.sees_place
        self.encoder = smp.encoders.get_encoder(
            settings.encoder, in_channels=channels, depth=settings.depth, weights=None
        )
        self.detail = nn.Sequential(
            _convolution(channels, DETAIL_CHANNELS), _convolution(DETAIL_CHANNELS, DETAIL_CHANNELS)
        )
        self.decoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        width = settings.decoder_channels[-1]
        for structure in structures:
            self.decoders[structure] = UnetDecoder(
                encoder_channels=self.encoder.out_channels,
                decoder_channels=settings.decoder_channels,
                n_blocks=settings.depth,
            )
            self.heads[structure] = nn.Sequential(
                _convolution(width + DETAIL_CHANNELS, width),
                nn.Conv2d(width, CLASSES[structure], kernel_size=1),
            )

    def forward(self, images: torch.Tensor, depth_mm: torch.Tensor) -> dict[str, torch.Tensor]:
        """From (B, channels, H, W) to logits (B, classes, H, W) for each structure.

        ``depth_mm`` (B,) says how far below the crown each slice lies.
        """
        if self.sees_place:
            images = torch.cat([images, place(images, depth_mm)], dim=1)
        features, detail = self.encoder(images), self.detail(images)
        return {
            structure: self.heads[structure](torch.cat([decoder(features), detail], dim=1))
            for structure, decoder in self.decoders.items()
        }


def _convolution(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
