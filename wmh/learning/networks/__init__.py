"""Networks: one encoder, and one decoder and head for each structure a task predicts."""

from wmh.learning.networks.build import build_network, to_device
from wmh.learning.networks.encoder_decoders import CLASSES, STRUCTURES
from wmh.learning.networks.normalisation import middle_of_head, statistics_from
from wmh.learning.networks.place import place
from wmh.learning.networks.prior import WithRegionPrior

__all__ = [
    "CLASSES",
    "STRUCTURES",
    "WithRegionPrior",
    "build_network",
    "middle_of_head",
    "place",
    "statistics_from",
    "to_device",
]
