"""One encoder, run once, and a decoder with a head of its own for each structure."""

from __future__ import annotations

import torch
from torch import nn

from wmh.learning.networks.place import PLACE_CHANNELS, place

Parts = tuple[nn.Module, dict[str, nn.Module]]
"""An encoder, from images to a list of features; for each structure, a decoder of that list."""

MULTIPLE = 16
"""Edges of the images are multiples of this: four halvings, or UNETR's patches of 16."""


class EncoderDecoders(nn.Module):
    """A network made of :data:`Parts`; like the 2-D U-Net, it sees the place if asked for regions.

    Takes any image whose edges are multiples of 16, and one of them at least 32.
    """

    def __init__(self, parts: Parts, structures: tuple[str, ...]):
        super().__init__()
        self.sees_place = "regions" in structures
        self.encoder, decoders = parts
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, images: torch.Tensor, where: torch.Tensor) -> dict[str, torch.Tensor]:
        """From (B, channels, ...) to logits (B, classes, ...) for each structure.

        ``where`` says where the images lie, as :func:`place` takes it. Raises ``ValueError`` for
        edges that do not halve evenly.
        """
        edges = tuple(images.shape[2:])
        if any(edge % MULTIPLE for edge in edges) or max(edges) == MULTIPLE:
            raise ValueError(
                f"images of {edges} pixels: every edge must be a multiple of {MULTIPLE}, and one "
                f"at least {2 * MULTIPLE}"
            )
        if self.sees_place:
            images = torch.cat([images, place(images, where)], dim=1)
        features = self.encoder(images)
        return {structure: decoder(features) for structure, decoder in self.decoders.items()}


def input_channels(channels: int, structures: tuple[str, ...]) -> int:
    """Channels that the encoder sees: the images', and the place for those that need it."""
    return channels + PLACE_CHANNELS * ("regions" in structures)
