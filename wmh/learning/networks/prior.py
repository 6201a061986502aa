"""An atlas of where regions lie in the training slices: a first guess that the network corrects."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from wmh.learning.networks.encoder_decoders import CLASSES

BIN_PIXELS = 4
BIN_MM = 6.0
"""Size of a bin of the atlas, in plane and along the depth below the crown."""

BINS = (28, 48, 48)
"""Bins along depth, right and front: 168 mm below the crown, 192 pixels around the middle."""

SLICES_AT_ONCE = 64
"""Slices that are read and counted at a time, because all may not fit into memory."""

MOSTLY_NONE = 0.8
"""Probability of background from which :meth:`WithRegionPrior.likeliest` shows no region."""

FAINT = 1e-3
"""Added to each frequency, so that every region is possible everywhere."""


class WithRegionPrior(nn.Module):
    """A network for slices whose region logits start from an atlas of the training subjects.

    The atlas is the logarithm of the frequency of each region at each place (a spatial prior, as in
    atlas-based segmentation; Ashburner and Friston 2005). The network's logits are added to it; it
    is counted once and not trained. Nothing else changes, so that any architecture can be wrapped.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.register_buffer("atlas", torch.zeros(BINS[0], CLASSES["regions"], *BINS[1:]))

    def forward(self, images: torch.Tensor, depth_mm: torch.Tensor) -> dict[str, torch.Tensor]:
        """From slices (B, C, H, W) and their depth (B,) in mm to logits, as the network does."""
        logits = self.network(images, depth_mm)
        logits["regions"] = logits["regions"] + self.guess(depth_mm, tuple(images.shape[2:]))
        return logits

    def guess(self, depth_mm: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The atlas interpolated at slices with these depths (B,): (B, classes, *size)."""
        depth = (depth_mm.to(self.atlas.device, torch.float32) / BIN_MM).clamp(0, BINS[0] - 1.001)
        above = depth.long()
        share = (depth - above)[:, None, None, None]
        slices = self.atlas[above] * (1 - share) + self.atlas[above + 1] * share
        spare = [
            (bins - edge // BIN_PIXELS) // 2 for bins, edge in zip(BINS[1:], size, strict=True)
        ]
        padding = [-n for n in (spare[1], spare[1], spare[0], spare[0])]  # negative: cut off
        slices = functional.pad(slices, padding, mode="replicate")
        slices = slices.contiguous(memory_format=torch.channels_last)  # as the network's logits
        return functional.interpolate(slices, size, mode="bilinear")

    @torch.no_grad()
    def likeliest(self, depth_mm: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The likeliest region (B, *size) of the atlas, to look at; 0 where it is background."""
        share = self.guess(depth_mm, size).softmax(dim=1)
        return torch.where(share[:, 0] < MOSTLY_NONE, share[:, 1:].argmax(dim=1) + 1, 0)

    @torch.no_grad()
    def fit(self, regions: torch.Tensor, depth_mm: torch.Tensor) -> None:
        """Fill the atlas with the frequencies of labels (N, H, W) of slices at depth (N,) in mm."""
        classes, size = CLASSES["regions"], regions.shape[1:]
        right, front = (
            (torch.arange(edge) // BIN_PIXELS + (bins - edge // BIN_PIXELS) // 2).clamp(0, bins - 1)
            for edge, bins in zip(size, BINS[1:], strict=True)
        )
        depth = (depth_mm.cpu() / BIN_MM).round().long().clamp(0, BINS[0] - 1)
        counts = torch.zeros(BINS[0] * classes * BINS[1] * BINS[2])
        in_plane = right[:, None] * BINS[2] + front
        for numbers in torch.arange(len(regions)).split(SLICES_AT_ONCE):
            for labels, at in zip(regions[numbers].cpu().long(), depth[numbers], strict=True):
                known = labels < classes
                bins = ((at * classes + labels) * BINS[1] * BINS[2] + in_plane)[known]
                counts.index_add_(0, bins, torch.ones(len(bins)))
        smooth = counts.view(BINS[0], classes, *BINS[1:]).transpose(0, 1)[None]
        for _ in range(2):
            smooth = functional.avg_pool3d(smooth, 3, stride=1, padding=1)
        frequency = smooth[0].transpose(0, 1) / BIN_PIXELS**2 + FAINT
        self.atlas.copy_((frequency / frequency.sum(dim=1, keepdim=True)).log())
