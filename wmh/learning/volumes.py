"""Patches of volumes: random ones in training, overlapping ones over the whole head at inference.

A volume is all :class:`Slices` of one subject. Patches are cut from the same tensors, so that 2-D
and 3-D networks share loading, splits and labels. Array axes point right, front and up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from wmh.learning.cut import window
from wmh.learning.networks.encoder_decoders import pad_to
from wmh.learning.networks.normalisation import middle_of_head, statistics_from
from wmh.learning.networks.place import place
from wmh.learning.slices import Slices, Stack
from wmh.settings import NetworkSettings, Training

OVERLAP = 0.5
"""Overlap of neighbouring patches at inference, as a share of their edge."""

PATCHES_AT_ONCE = 2


@dataclass(frozen=True)
class Patches:
    """Positions of patches, (B, 3) each: pixels along right and front, and slice numbers.

    ``low`` and ``high`` are the bounds of the patch's subject; a patch is zero outside of them.
    """

    start: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    size: tuple[int, int, int]

    def of(self, stack: Stack) -> torch.Tensor:
        """Cut the patches from slices: (B, C, X, Y, Z) from (N, C, H, W), or both without C."""
        *in_plane, depth = self.size
        patches = []
        for (*corner, up), low, high in zip(
            self.start.tolist(), self.low[:, 2].tolist(), self.high[:, 2].tolist(), strict=True
        ):
            first, end = max(up, low), min(up + depth, high)
            part = window(stack[first:end], corner, in_plane).movedim(0, -1)
            patches.append(functional.pad(part, (first - up, up + depth - end)))
        return torch.stack(patches)

    def where(self, slices: Slices) -> torch.Tensor:
        """Their positions in the form that a network's place channels need: (B, 3, 2)."""
        first = self.low[:, 2]
        crown = slices.depth_mm[first]
        below = slices.depth_mm[(first + 1).clamp(max=self.high[:, 2] - 1)]
        height, width = slices.images.shape[2:]
        return place_of_patch(self.start, (height, width), first, crown, crown - below)


def draw_patches(
    slices: Slices, lesion_share: float, training: Training, generator: torch.Generator
) -> Patches:
    """Draw a batch of random patches; ``lesion_share`` of them contain a random lesion voxel."""
    size = torch.tensor(training.network.patch_size)
    count = training.batch_size
    chosen = torch.randint(len(slices), (count,), generator=generator)
    voxels = slices.lesion_voxels
    wanted = round(lesion_share * count) if len(voxels) else 0
    aimed = voxels[torch.randint(max(1, len(voxels)), (wanted,), generator=generator)]
    chosen[:wanted] = aimed[:, 2]

    first, end = slices.spans[slices.subject[chosen]].unbind(1)
    height, width = slices.images.shape[2:]
    none = torch.zeros_like(first)
    low = torch.stack([none, none, first], dim=1)
    high = torch.stack([none + height, none + width, end], dim=1)
    slack = high - low - size
    share = torch.rand(count, 3, generator=generator)
    start = low + (share * (slack + 1)).long()
    start[:wanted] = aimed - (share[:wanted] * size).long()
    start = torch.minimum(torch.maximum(start, low), low + slack)
    start = torch.where(slack < 0, low + slack // 2, start)  # a smaller subject is centred
    return Patches(start, low, high, training.network.patch_size)


def place_of_patch(
    start: torch.Tensor,
    in_plane: tuple[int, int],
    first: torch.Tensor,
    depth_mm: torch.Tensor,
    thickness_mm: torch.Tensor,
) -> torch.Tensor:
    """Start and step of a patch's place along each axis (B, 3, 2), in the units of a slice's place.

    ``start`` (B, 3) is the patch's first voxel in slices of ``in_plane`` pixels; ``depth_mm`` (B,)
    is the depth below the crown of slice number ``first`` (B,).
    """
    right, front = ((start[:, axis] - (in_plane[axis] - 1) / 2) / 64 for axis in (0, 1))
    depth = depth_mm - (start[:, 2] - first) * thickness_mm
    starts = torch.stack([right, front, (depth - 75) / 75], dim=1)
    pixel = torch.full_like(right, 1 / 64)
    steps = torch.stack([pixel, pixel, -thickness_mm / 75], dim=1)
    return torch.stack([starts, steps], dim=2)


def logits_of_slices(
    network: nn.Module,
    images: torch.Tensor,
    depth_mm: torch.Tensor,
    settings: NetworkSettings,
    shown: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Logits (N, classes, H, W) of slices (N, C, H, W); 3-D networks need all slices of a subject.

    A 2-D network normalises by the slices in the middle of the head, which most of its training
    slices come from, and only by those ``shown`` (N,) without a blank image. A 3-D network predicts
    overlapping patches, which are weighted by a Gaussian around their middle.
    """
    if settings.dimensions == 2:
        with statistics_from(middle_of_head(depth_mm, shown)):
            return network(images, depth_mm)
    volume = images.permute(1, 2, 3, 0)[None]  # (1, C, X, Y, Z)
    volume, inside = pad_to(volume, settings.patch_size)
    thickness_mm = depth_mm[0] - depth_mm[min(1, len(depth_mm) - 1)]
    where = place_of_patch(
        -torch.tensor([[along.start for along in inside[1:]]]),
        images.shape[2:],
        torch.zeros(1),
        depth_mm[:1].cpu(),
        thickness_mm.cpu()[None],
    )
    logits = _over_patches(network, volume, where, settings.patch_size)
    return {name: scores[inside][0].movedim(-1, 0) for name, scores in logits.items()}


def _over_patches(
    network: nn.Module, volume: torch.Tensor, where: torch.Tensor, patch_size: tuple[int, int, int]
) -> dict[str, torch.Tensor]:
    """Logits (1, classes, X, Y, Z) of a volume (1, C, X, Y, Z) from overlapping patches."""
    from monai.inferers import sliding_window_inference  # takes seconds to import; only for 3-D

    channels = volume.shape[1]

    def answer(patches: torch.Tensor) -> dict[str, torch.Tensor]:
        images, places = patches.split([channels, 3], dim=1)
        corner = places[:, :, 0, 0, 0]
        steps = [places[:, 0, 1, 0, 0], places[:, 1, 0, 1, 0], places[:, 2, 0, 0, 1]]
        there = torch.stack([corner, torch.stack(steps, dim=1) - corner], dim=2)
        return {name: scores.float() for name, scores in network(images, there).items()}

    placed = torch.cat([volume, place(volume, where)], dim=1)  # so that patches keep their place
    return sliding_window_inference(
        placed, patch_size, PATCHES_AT_ONCE, answer, overlap=OVERLAP, mode="gaussian"
    )
