"""The 2-D U-Net, with any encoder of segmentation-models-pytorch.

ResNet-18 and -34 (He et al. 2016) and the decoder are defined here, because
segmentation-models-pytorch takes seconds to import. Their layers have the same names as in
torchvision and segmentation-models-pytorch.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from wmh.learning.networks.encoder_decoders import CLASSES, pad_to_multiple
from wmh.learning.networks.place import FINE_PLACE_CHANNELS, PLACE_CHANNELS, fine_place, place
from wmh.settings import NetworkSettings

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Number of blocks in each of the four layers."""

WIDTHS = (64, 128, 256, 512)

DETAIL_CHANNELS = 16
SEEN_CHANNELS, HIDDEN_CHANNELS = 48, 96
"""Channels that the head of the regions computes from the features, and those of its hidden layer.
"""


class SharedEncoder(nn.Module):
    """A U-Net with one encoder and, for each structure, its own decoder and head.

    Encoders halve the slice before their first block, which is too coarse for lesions of one or two
    pixels. Therefore two convolutions at full resolution bypass the encoder and join the decoder at
    the head, like the topmost skip connection of the original U-Net (Ronneberger et al. 2015). With
    them the decoder may end at half resolution. A network that predicts regions also gets the
    :func:`place` of each pixel.
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

        ``depth_mm`` (B,) is the depth of each slice below the crown.
        """
        where = place(images, depth_mm) if self.sees_place else None
        if self.sees_place:
            images = torch.cat([images, where], dim=1)
        detail = self.detail(images)
        padded, inside = pad_to_multiple(images, self.multiple)
        features = self.encoder(padded)
        return {
            structure: self.heads[structure](Join.apply(decoder(features)[inside], detail), where)
            for structure, decoder in self.decoders.items()
        }


class LesionHead(nn.Module):
    """From features at full resolution to lesion logits."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.see = convolution(channels, width)
        self.decide = nn.Conv2d(width, CLASSES["lesions"], kernel_size=1)

    def forward(self, features: torch.Tensor, where: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, 2, H, W); ``where`` is not used, as lesions look the same everywhere."""
        return self.decide(self.see(features))


class RegionHead(nn.Module):
    """From features at full resolution and the place of each pixel to region logits.

    Most borders between regions are not visible in the image, but defined by the atlas. The head
    therefore combines, pixel by pixel, the features with the place.
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
        return self.decide(Join.apply(seen, fine))


def build_encoder(name: str, channels: int, depth: int) -> nn.Module:
    """An encoder with random weights: from (B, channels, H, W) to a list of ``depth`` + 1 features.

    The first features are the images themselves; ``out_channels`` are the channels of each.
    """
    if name in BLOCKS:
        return ResNet(BLOCKS[name], channels, depth)
    import segmentation_models_pytorch as smp

    return smp.encoders.get_encoder(name, in_channels=channels, depth=depth, weights=None)


class ResNet(nn.Module):
    """The layers of a ResNet down to a depth; each halves the image."""

    def __init__(self, blocks: tuple[int, ...], channels: int, depth: int):
        super().__init__()
        widths = WIDTHS[: depth - 1]
        self.out_channels = [channels, WIDTHS[0], *widths]
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.names = [f"layer{number + 1}" for number in range(len(widths))]
        before = WIDTHS[0]
        for name, width, count in zip(self.names, widths, blocks, strict=False):
            first = Block(before, width, stride=1 if name == "layer1" else 2)
            others = [Block(width, width) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(first, *others))
            before = width
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each depth, the images themselves first."""
        features = [images, functional.relu(self.bn1(self.conv1(images)), inplace=True)]
        halved = functional.max_pool2d(features[-1], kernel_size=3, stride=2, padding=1)
        for name in self.names:
            halved = self.get_submodule(name)(halved)
            features.append(halved)
        return features


class Block(nn.Module):
    """Two convolutions, added to a shortcut."""

    def __init__(self, before: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or before != width:
            shortcut = nn.Conv2d(before, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From (B, before, H, W) to (B, width, H / stride, W / stride)."""
        seen = functional.relu(self.bn1(self.conv1(features)), inplace=True)
        seen = self.bn2(self.conv2(seen))
        kept = features if self.downsample is None else self.downsample(features)
        return functional.relu(seen + kept, inplace=True)


class Decoder(nn.Module):
    """From an encoder's features back to full resolution, joining the features of each depth.

    If ``channels`` has one number less than the encoder has depths, the last block works at half
    resolution, and its output is only enlarged.
    """

    def __init__(self, encoder_channels: list[int], channels: tuple[int, ...]):
        super().__init__()
        *skips, deepest = encoder_channels[1:]
        before = (deepest, *channels)
        self.blocks = nn.ModuleList()
        for below, skip, width in zip(before, [*skips[::-1], 0], channels, strict=False):
            first, second = convolution(below + skip, width), convolution(width, width)
            self.blocks.append(nn.Sequential(OrderedDict(conv1=first, conv2=second)))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """From the features of all depths, the images first, to (B, channels[-1], H, W)."""
        images, *skips, seen = features
        for block, skip in zip(self.blocks, [*skips[::-1], None], strict=False):
            size = (images if skip is None else skip).shape[2:]
            seen = functional.interpolate(seen, size)
            seen = block(seen if skip is None else Join.apply(seen, skip))
        return functional.interpolate(seen, images.shape[2:])


class Join(torch.autograd.Function):
    """Two images (B, C, H, W), one channel after the other, as ``torch.cat`` does.

    The gradient of each is contiguous. That of ``torch.cat`` is a part of the gradient of both, in
    which a CPU takes ten times as long for the layer before.
    """

    @staticmethod
    def forward(ctx, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        ctx.channels = one.shape[1], other.shape[1]
        return torch.cat([one, other], dim=1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one, other = gradient.split(ctx.channels, dim=1)
        layout = torch.channels_last
        return one.contiguous(memory_format=layout), other.contiguous(memory_format=layout)


def convolution(before: int, width: int) -> nn.Sequential:
    """A convolution of 3 x 3 pixels, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
