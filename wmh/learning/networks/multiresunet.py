"""MultiResUNet (Ibtehaz and Rahman 2020, doi 10.1016/j.neunet.2019.08.025), in 2-D and 3-D.

A U-Net in which MultiRes blocks (figure 4 of the paper) replace the pairs of convolutions, and Res
paths (figure 5) the skip connections. As in the authors' own code (nibtehaz/MultiResUNet), all
convolutions have batch normalisation instead of a bias, except those that double the resolution.
"""

from __future__ import annotations

import torch
from torch import nn

from wmh.learning.networks.encoder_decoders import CLASSES, Parts

ALPHA = 1.67
"""Factor on the width of a MultiRes block, so that the network has about a U-Net's parameters."""

SHARES = (0.167, 0.333, 0.5)
"""Shares of a block's width in its three convolutions: about a sixth, a third and a half."""

LEVELS = (1, 2, 4, 8, 16)
"""Width of each level, in multiples of the first level's."""

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
DOUBLING = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
HALVING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def parts(dimensions: int, channels: int, width: int, structures: tuple[str, ...]) -> Parts:
    """Five levels; ``width`` is that of a U-Net with as many parameters, 32 in the paper."""
    encoder = Encoder(dimensions, channels, width)
    return encoder, {
        structure: Decoder(dimensions, width, CLASSES[structure]) for structure in structures
    }


class Encoder(nn.Module):
    """MultiRes blocks on the way down, each followed by its Res path, the longest at the top."""

    def __init__(self, dimensions: int, channels: int, width: int):
        super().__init__()
        self.blocks, self.paths = nn.ModuleList(), nn.ModuleList()
        for level, factor in enumerate(LEVELS):
            block = MultiResBlock(dimensions, channels, factor * width)
            channels = block.channels
            self.blocks.append(block)
            if length := len(LEVELS) - 1 - level:
                self.paths.append(res_path(dimensions, channels, factor * width, length))
        self.halve = HALVING[dimensions](2)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of the Res paths, the finest level first, then the lowest level itself."""
        features = []
        for block, path in zip(self.blocks[:-1], self.paths, strict=True):
            image = block(images)
            features.append(path(image))
            images = self.halve(image)
        return [*features, self.blocks[-1](images)]


class Decoder(nn.Module):
    """MultiRes blocks on the way up, and a 1 x 1 convolution as head."""

    def __init__(self, dimensions: int, width: int, classes: int):
        super().__init__()
        self.doublings, self.blocks = nn.ModuleList(), nn.ModuleList()
        channels = sum(block_channels(LEVELS[-1] * width))
        for factor in reversed(LEVELS[:-1]):
            level = factor * width
            self.doublings.append(DOUBLING[dimensions](channels, level, 2, stride=2))
            block = MultiResBlock(dimensions, 2 * level, level)
            channels = block.channels
            self.blocks.append(block)
        self.head = CONVOLUTION[dimensions](channels, classes, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """From the features of each level to logits."""
        *finer, scores = features
        ways = zip(self.doublings, self.blocks, reversed(finer), strict=True)
        for double, block, skipped in ways:
            scores = block(torch.cat([double(scores), skipped], dim=1))
        return self.head(scores)


class MultiResBlock(nn.Module):
    """Three successive convolutions of 3 with their outputs concatenated, and a 1 x 1 shortcut.

    In succession they see as far as kernels of 3, 5 and 7.
    """

    def __init__(self, dimensions: int, channels: int, width: int):
        super().__init__()
        widths = block_channels(width)
        self.channels = sum(widths)
        self.shortcut = _convolution(dimensions, channels, self.channels, kernel=1)
        before = (channels, *widths[:-1])
        self.convolutions = nn.ModuleList(
            nn.Sequential(_convolution(dimensions, i, o, kernel=3), nn.ReLU(inplace=True))
            for i, o in zip(before, widths, strict=True)
        )
        self.norm = NORM[dimensions](self.channels)
        self.end = nn.Sequential(nn.ReLU(inplace=True), NORM[dimensions](self.channels))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From (B, channels, ...) to (B, self.channels, ...)."""
        seen = [image]
        for convolution in self.convolutions:
            seen.append(convolution(seen[-1]))
        return self.end(self.shortcut(image) + self.norm(torch.cat(seen[1:], dim=1)))


class ResUnit(nn.Module):
    """A convolution of 3 added to a 1 x 1 shortcut: one unit of a Res path."""

    def __init__(self, dimensions: int, channels: int, width: int):
        super().__init__()
        self.shortcut = _convolution(dimensions, channels, width, kernel=1)
        self.convolution = nn.Sequential(
            _convolution(dimensions, channels, width, kernel=3), nn.ReLU(inplace=True)
        )
        self.end = nn.Sequential(nn.ReLU(inplace=True), NORM[dimensions](width))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From (B, channels, ...) to (B, width, ...)."""
        return self.end(self.shortcut(image) + self.convolution(image))


def res_path(dimensions: int, channels: int, width: int, length: int) -> nn.Sequential:
    """A Res path of ``length`` successive residual units, from encoder to decoder."""
    widths = [channels, *[width] * length]
    return nn.Sequential(*(ResUnit(dimensions, i, width) for i in widths[:-1]))


def block_channels(width: int) -> tuple[int, ...]:
    """Channels of a MultiRes block's three convolutions, rounded down as the authors do."""
    return tuple(max(1, int(ALPHA * width * share)) for share in SHARES)


def _convolution(dimensions: int, channels: int, width: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps the size, and batch normalisation."""
    convolution = CONVOLUTION[dimensions](channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, NORM[dimensions](width))
