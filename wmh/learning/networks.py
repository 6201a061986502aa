"""Networks: one encoder, and one decoder and head for each structure a task predicts."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import nn

from wmh.study import NetworkSettings

CLASSES = {"lesions": 2, "regions": 37}
"""Classes of each structure: background and lesion; background, 34 regions and two rest labels."""

STRUCTURES = {
    "lesions": ("lesions",),
    "regions": ("regions",),
    "multitask": ("lesions", "regions"),
}
"""What a network of each task predicts."""


class SharedEncoder(nn.Module):
    """A U-Net with one encoder and, for each structure, a decoder and a head of its own."""

    def __init__(self, settings: NetworkSettings, channels: int, structures: tuple[str, ...]):
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            settings.encoder, in_channels=channels, depth=settings.depth, weights=None
        )
        self.decoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for structure in structures:
            self.decoders[structure] = UnetDecoder(
                encoder_channels=self.encoder.out_channels,
                decoder_channels=settings.decoder_channels,
                n_blocks=settings.depth,
            )
            self.heads[structure] = nn.Conv2d(
                settings.decoder_channels[-1], CLASSES[structure], kernel_size=3, padding=1
            )

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """From (B, channels, H, W) to logits (B, classes, H, W) for each structure."""
        features = self.encoder(images)
        return {
            structure: self.heads[structure](decoder(features))
            for structure, decoder in self.decoders.items()
        }


def build_network(settings: NetworkSettings, channels: int, task: str) -> nn.Module:
    """Build the network of a task for a number of input channels, with random weights."""
    return SharedEncoder(settings, channels, STRUCTURES[task])
