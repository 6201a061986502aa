"""A network with one encoder, and for each structure its own decoder and head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional

from wmh.learning.networks.place import place

CLASSES = {"lesions": 2, "regions": 37}
"""Classes of each structure: background and lesion; background, 34 regions and two rest labels."""

STRUCTURES = {
    "lesions": ("lesions",),
    "regions": ("regions",),
    "multitask": ("lesions", "regions"),
}
"""Structures that a network of each task predicts."""

Parts = tuple[nn.Module, dict[str, nn.Module]]
"""An encoder from images to a list of features, and for each structure a decoder of that list."""

MULTIPLE = 16
"""Images are padded to multiples of this: for four halvings, or for UNETR's patches of 16."""


class EncoderDecoders(nn.Module):
    """A network made of :data:`Parts`; as the 2-D U-Net, it gets the place if it predicts regions.

    It accepts images of any size, if at least one edge is larger than 16.
    """

    def __init__(self, parts: Parts, structures: tuple[str, ...]):
        super().__init__()
        self.sees_place = "regions" in structures
        self.encoder, decoders = parts
        self.decoders = nn.ModuleDict(decoders)

    def forward(self, images: torch.Tensor, where: torch.Tensor) -> dict[str, torch.Tensor]:
        """From (B, channels, ...) to logits (B, classes, ...) for each structure.

        ``where`` is the position of the images, as for :func:`place`. Raises ``ValueError`` for
        images that the encoder would reduce to a single pixel.
        """
        edges = tuple(images.shape[2:])
        if max(edges) <= MULTIPLE:
            raise ValueError(
                f"images of {edges} pixels are too small: at least one edge must be larger than "
                f"{MULTIPLE}"
            )
        if self.sees_place:
            images = torch.cat([images, place(images, where)], dim=1)
        padded, inside = pad_to_multiple(images, MULTIPLE)
        features = self.encoder(padded)
        return {name: decoder(features)[inside] for name, decoder in self.decoders.items()}


class Decoder(nn.Module):
    """The levels on the way up, each joined with skipped features, and the head."""

    def __init__(self, levels: Iterable[nn.Module], head: nn.Module):
        super().__init__()
        self.levels, self.head = nn.ModuleList(levels), head

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """From the features of each level to logits."""
        *finer, scores = features
        for level, skipped in zip(self.levels, reversed(finer), strict=True):
            scores = level(scores, skipped)
        return self.head(scores)


def pad_to_multiple(images: torch.Tensor, multiple: int) -> tuple[torch.Tensor, tuple[object, ...]]:
    """Add background on all sides of (B, C, ...) so that every edge is a multiple of ``multiple``.

    Also returns the position of the images in the result, as an index.
    """
    return pad_to(images, [edge + -edge % multiple for edge in images.shape[2:]])


def pad_to(images: torch.Tensor, least: Sequence[int]) -> tuple[torch.Tensor, tuple[object, ...]]:
    """Add background as :func:`pad_to_multiple` so that edges of (B, C, ...) are these or more."""
    edges = images.shape[2:]
    missing = [max(0, wanted - edge) for wanted, edge in zip(least, edges, strict=True)]
    before = [count // 2 for count in missing]
    sides = [(low, count - low) for low, count in zip(before, missing, strict=True)]
    padding = [count for pair in reversed(sides) for count in pair]  # the last axis comes first
    inside = (..., *(slice(low, low + edge) for low, edge in zip(before, edges, strict=True)))
    return functional.pad(images, padding), inside
