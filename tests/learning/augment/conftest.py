"""Heads to augment, and settings that do nothing."""

import torch

from wmh.learning.augment import apply, draw
from wmh.settings import Augmentation

NOTHING = Augmentation(
    probability=1.0,
    rotation_degrees=0,
    scaling=(1, 1),
    mirroring=False,
    elastic=0,
    additive_noise=0,
    multiplicative_noise=0,
    bias_field=0,
    gamma=(1, 1),
    contrast=(1, 1),
    brightness=(1, 1),
    blur_pixels=(0, 0),
    low_resolution=(1, 1),
    motion_pixels=0,
)
ALWAYS = Augmentation(probability=1.0)


def batch(samples: int = 6, dimensions: int = 2) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Heads of value 1 with a bright lesion, and regions on both sides of the first axis."""
    images = torch.zeros(samples, 2, 48, 64)
    images[:, :, 8:40, 8:56] = 1.0
    lesions = torch.zeros(samples, 48, 64, dtype=torch.uint8)
    lesions[:, 14:22, 20:32] = 1
    images[lesions[:, None].expand_as(images) == 1] = 2.0
    regions = torch.zeros(samples, 48, 64, dtype=torch.uint8)
    regions[:, 8:24, 8:56], regions[:, 24:40, 8:56] = 4, 21
    labels = {"lesions": lesions, "regions": regions, "regions_skeleton": regions}
    if dimensions == 3:  # the slice, eight times
        images = images[..., None].repeat(1, 1, 1, 1, 8)
        labels = {name: label[..., None].repeat(1, 1, 1, 8) for name, label in labels.items()}
    return images, labels


def augmented(settings: Augmentation, seed: int = 0, dimensions: int = 2):
    images, labels = batch(dimensions=dimensions)
    drawn = draw(tuple(images.shape), settings, torch.Generator().manual_seed(seed))
    return apply(images, labels, drawn)


def nothing_drawn(shape: tuple[int, ...]):
    """Parameters that leave images of a shape as they are, to change one of."""
    return draw(shape, NOTHING, torch.Generator().manual_seed(0))
