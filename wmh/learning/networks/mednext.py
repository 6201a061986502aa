"""MedNeXt-S with kernels of 3 (Roy et al. 2023), from MONAI, split into encoder and decoder.

MONAI's class has the published layers, but its ``forward`` supports only one output.
"""

from __future__ import annotations

import torch
from monai.networks.nets import MedNeXt
from torch import nn

from wmh.learning.networks.encoder_decoders import CLASSES, Parts


def parts(dimensions: int, channels: int, width: int, structures: tuple[str, ...]) -> Parts:
    """Five levels of ``width`` times 1 to 16 channels; 32 is the published width."""
    networks = {
        structure: MedNeXt(
            spatial_dims=dimensions,
            init_filters=width,
            in_channels=channels,
            out_channels=CLASSES[structure],
            kernel_size=3,
            use_residual_connection=True,
        )
        for structure in structures
    }
    encoder = Encoder(networks[structures[0]])
    return encoder, {structure: Decoder(network) for structure, network in networks.items()}


class Encoder(nn.Module):
    """The stem, the levels on the way down and the bottleneck."""

    def __init__(self, network: MedNeXt):
        super().__init__()
        self.stem, self.bottleneck = network.stem, network.bottleneck
        self.levels, self.halvings = network.enc_stages, network.down_blocks
        for halve in self.halvings:
            halve.res_conv.stride = 1
            halve.res_conv.register_forward_pre_hook(_every_second)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of each level, the finest first."""
        features, image = [], self.stem(images)
        for level, halve in zip(self.levels, self.halvings, strict=True):
            features.append(level(image))
            image = halve(features[-1])
        return [*features, self.bottleneck(image)]


def _every_second(shortcut: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    """Every second voxel along each axis, which is all that a kernel of 1 with stride 2 uses.

    This avoids an error of PyTorch 2.15: on a CPU, the gradients of such a convolution with fewer
    than 16 channels access memory outside of the tensor, and the process can crash.
    """
    (image,) = inputs
    return image[(..., *[slice(None, None, 2)] * (image.ndim - 2))]


class Decoder(nn.Module):
    """The levels on the way up, and the head."""

    def __init__(self, network: MedNeXt):
        super().__init__()
        self.doublings, self.levels = network.up_blocks, network.dec_stages
        self.head = network.out_0

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """From the features of each level to logits."""
        *finer, scores = features
        ways = zip(self.doublings, self.levels, reversed(finer), strict=True)
        for double, level, skipped in ways:
            scores = level(double(scores) + skipped)
        return self.head(scores)
