"""Networks: one encoder, and one decoder and head for each structure a task predicts."""

from wmh.learning.networks.build import build_network, normalise_by_batch
from wmh.learning.networks.place import place
from wmh.learning.networks.structures import CLASSES, STRUCTURES

__all__ = ["CLASSES", "STRUCTURES", "build_network", "normalise_by_batch", "place"]
