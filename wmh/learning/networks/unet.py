"""The 2-D U-Net, with any encoder of segmentation-models-pytorch."""

from __future__ import annotations

import torch
from torch import nn

from wmh.learning.networks.encoder_decoders import CLASSES, pad_to_multiple
from wmh.learning.networks.place import FINE_PLACE_CHANNELS, PLACE_CHANNELS, fine_place, place
from wmh.learning.networks.resnet import Decoder, build_encoder, convolution
from wmh.settings import NetworkSettings

DETAIL_CHANNELS = 16
SEEN_CHANNELS, HIDDEN_CHANNELS = 48, 96
"""Channels that the head of the regions takes from the image, and those of its hidden layer."""


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
        self.multiple = 2**settings.depth
        self.sees_place = "regions" in structures
        channels += PLACE_CHANNELS * self.sees_place
        self.encoder = build_encoder(settings.encoder, channels, settings.depth)
        self.detail = nn.Sequential(
            convolution(channels, DETAIL_CHANNELS), convolution(DETAIL_CHANNELS, DETAIL_CHANNELS)
        )
        self.decoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        width = settings.decoder_channels[-1]
        for structure in structures:
            self.decoders[structure] = Decoder(
                list(self.encoder.out_channels), settings.decoder_channels
            )
            features = width + DETAIL_CHANNELS
            regions = structure == "regions"
            self.heads[structure] = RegionHead(features) if regions else LesionHead(features, width)

    def forward(self, images: torch.Tensor, depth_mm: torch.Tensor) -> dict[str, torch.Tensor]:
        """From (B, channels, H, W) to logits (B, classes, H, W) for each structure.

        ``depth_mm`` (B,) says how far below the crown each slice lies.
        """
        where = place(images, depth_mm) if self.sees_place else None
        if self.sees_place:
            images = torch.cat([images, where], dim=1)
        detail = self.detail(images)
        padded, inside = pad_to_multiple(images, self.multiple)
        features = self.encoder(padded)
        return {
            structure: self.heads[structure](
                torch.cat([decoder(features)[inside], detail], dim=1), where
            )
            for structure, decoder in self.decoders.items()
        }


class LesionHead(nn.Module):
    """From features at full resolution to lesion logits."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.see = convolution(channels, width)
        self.decide = nn.Conv2d(width, CLASSES["lesions"], kernel_size=1)

    def forward(self, features: torch.Tensor, where: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, 2, H, W); a lesion looks alike everywhere, so ``where`` is left aside."""
        return self.decide(self.see(features))


class RegionHead(nn.Module):
    """From features at full resolution and the place of each pixel to region logits.

    Most borders between regions cannot be seen in the image; they lie where the atlas has them. The
    head therefore weighs, pixel by pixel, what is seen against where it is.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.see = convolution(channels, SEEN_CHANNELS)
        self.decide = nn.Sequential(
            nn.Conv2d(SEEN_CHANNELS + FINE_PLACE_CHANNELS, HIDDEN_CHANNELS, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HIDDEN_CHANNELS, CLASSES["regions"], kernel_size=1),
        )

    def forward(self, features: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Logits (B, 37, H, W) from features (B, C, H, W) and the place (B, 3, H, W)."""
        seen = self.see(features)
        fine = fine_place(where).to(seen.dtype, memory_format=torch.channels_last)
        return self.decide(torch.cat([seen, fine], dim=1))
