"""ResNet-18 and -34 as encoders (He et al. 2016), and the decoder of a U-Net.

Layers are called as those of torchvision and of segmentation-models-pytorch, which takes seconds to
import; only other encoders need it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks of each of the four layers."""

WIDTHS = (64, 128, 256, 512)


def build_encoder(name: str, channels: int, depth: int) -> nn.Module:
    """An encoder with random weights: from (B, channels, H, W) to its features, the images first.

    ``out_channels`` says how many channels each of the ``depth`` + 1 has.
    """
    if name in BLOCKS:
        return ResNet(BLOCKS[name], channels, depth)
    import segmentation_models_pytorch as smp

    return smp.encoders.get_encoder(name, in_channels=channels, depth=depth, weights=None)


class ResNet(nn.Module):
    """The layers of a ResNet down to a depth, each of which halves the image."""

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
    """Two convolutions beside a shortcut."""

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
    """From an encoder's features back to full resolution, each depth meeting the one above it."""

    def __init__(self, encoder_channels: list[int], channels: tuple[int, ...]):
        super().__init__()
        *skips, deepest = encoder_channels[1:]
        before = (deepest, *channels)
        self.blocks = nn.ModuleList()
        for below, skip, width in zip(before, [*skips[::-1], 0], channels, strict=False):
            first, second = convolution(below + skip, width), convolution(width, width)
            self.blocks.append(nn.Sequential(OrderedDict(conv1=first, conv2=second)))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """From features of every depth, the images first, to (B, channels[-1], H, W)."""
        images, *skips, seen = features
        for block, skip in zip(self.blocks, [*skips[::-1], None], strict=True):
            size = (images if skip is None else skip).shape[2:]
            seen = functional.interpolate(seen, size)
            seen = block(seen if skip is None else torch.cat([seen, skip], dim=1))
        return seen


def convolution(before: int, width: int) -> nn.Sequential:
    """A convolution of 3 x 3 pixels, normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(before, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
