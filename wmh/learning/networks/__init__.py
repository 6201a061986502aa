"""Networks: one encoder, and one decoder and head for each structure a task predicts."""

from wmh.learning.networks.build import batch_norms, build_network, normalise_by_batch, to_device
from wmh.learning.networks.place import place
from wmh.learning.networks.prior import WithRegionPrior
from wmh.learning.networks.structures import CLASSES, STRUCTURES

__all__ = [
    "CLASSES",
    "STRUCTURES",
    "WithRegionPrior",
    "batch_norms",
    "build_network",
    "normalise_by_batch",
    "place",
    "to_device",
]
