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


def place(images: torch.Tensor, depth_mm: torch.Tensor) -> torch.Tensor:
    """Three channels (B, 3, H, W) that say where a pixel lies, each about -1 to 1.

    Pixels right and in front of the middle of the head, in units of 64, and mm below the crown, in
    units of 75 from a middle of 75.
    """
    samples, _, height, width = images.shape
    right = (torch.arange(height, device=images.device) - (height - 1) / 2) / 64
    front = (torch.arange(width, device=images.device) - (width - 1) / 2) / 64
    depth = (depth_mm.to(images.device) - 75) / 75
    size = (samples, height, width)
    channels = [
        right[None, :, None].expand(size),
        front[None, None, :].expand(size),
        depth[:, None, None].expand(size),
    ]
    return torch.stack(channels, dim=1).to(images.dtype)


def _convolution(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


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
