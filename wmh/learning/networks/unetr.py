"""UNETR (Hatamizadeh et al. 2022): PyTorch's transformer with MONAI's convolutional blocks.

MONAI's own class supports one image size and one output. Here slices differ in size between cohorts
and people. Therefore the learned positions of tokens are interpolated to the image's grid of
tokens, as vision transformers do at other resolutions (Dosovitskiy et al. 2021).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.blocks import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import nn
from torch.nn import functional

from wmh.learning.networks.encoder_decoders import CLASSES, MULTIPLE, Decoder, Parts

LAYERS, HEADS = 12, 12
"""Layers and attention heads of the transformer, as published."""

SKIPPED = (3, 6, 9)
"""Layers whose tokens reach the decoder through a skip connection, the finest first."""

TOKENS = 8
"""Number of tokens along each axis of the grid on which positions are learned."""

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def parts(dimensions: int, channels: int, width: int, structures: tuple[str, ...]) -> Parts:
    """Tokens of 24 ``width`` channels, convolutions of half ``width``; published: 32."""
    hidden, features = 24 * width, width // 2
    encoder = Encoder(dimensions, channels, hidden, features)
    widths = [hidden, 8 * features, 4 * features, 2 * features, features]

    def decoder(classes: int) -> Decoder:
        levels = [
            UnetrUpBlock(dimensions, i, o, 3, 2, norm_name="instance", res_block=True)
            for i, o in pairwise(widths)
        ]
        return Decoder(levels, CONVOLUTION[dimensions](features, classes, 1))

    return encoder, {structure: decoder(CLASSES[structure]) for structure in structures}


class Encoder(nn.Module):
    """The transformer, and the convolutions that bring its tokens to the decoder's levels."""

    def __init__(self, dimensions: int, channels: int, hidden: int, features: int):
        super().__init__()
        self.embed = CONVOLUTION[dimensions](channels, hidden, MULTIPLE, stride=MULTIPLE)
        self.positions = nn.Parameter(torch.empty(1, hidden, *[TOKENS] * dimensions))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden,
                HEADS,
                dim_feedforward=4 * hidden,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(hidden)
        self.finest = UnetrBasicBlock(
            dimensions, channels, features, 3, 1, norm_name="instance", res_block=True
        )
        self.skips = nn.ModuleList(
            UnetrPrUpBlock(
                dimensions,
                hidden,
                features * 2 ** (level + 1),
                num_layer=2 - level,
                kernel_size=3,
                stride=1,
                upsample_kernel_size=2,
                norm_name="instance",
                conv_block=True,
                res_block=True,
            )
            for level in range(len(SKIPPED))
        )
        self.interpolation = INTERPOLATION[dimensions]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each level, the finest first."""
        tokens = self.embed(images)  # (B, hidden, *grid)
        grid = tokens.shape[2:]
        tokens = tokens + functional.interpolate(self.positions, grid, mode=self.interpolation)
        tokens = tokens.flatten(2).transpose(1, 2)  # (B, tokens, hidden)
        features = [self.finest(images)]
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens)
            if number in SKIPPED:
                skip = self.skips[SKIPPED.index(number)]
                features.append(skip(_on_grid(tokens, grid)))
        return [*features, _on_grid(self.norm(tokens), grid)]


def _on_grid(tokens: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    """Tokens (B, tokens, hidden) as an image (B, hidden, *grid)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
