"""Weights to start a training from: the general model's, or those of another study's models."""

from __future__ import annotations

from torch import nn

from wmh.learning.general import read_general
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.models import CheckpointError, read_checkpoint
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.networks.place import PLACE_CHANNELS
from wmh.study import Study, load_study

GENERAL = "general"
"""Value of ``training.start_from`` that means the weights in the package."""


def start_from(network: nn.Module, study: Study, model: str) -> None:
    """Fill a network of the study with the weights that ``training.start_from`` names.

    Weights are taken as far as inputs and tasks are the same: in the first layers the channels of
    the modalities that the model sees, and the decoders of its structures. Raises
    :class:`CheckpointError`, which names the settings to change, if the architectures differ.
    """
    content = _content(study, model)
    theirs, ours = content["network"], study.training.network.model_dump(mode="json")
    if differing := [key for key in ours if theirs.get(key) != ours[key]]:
        wanted = ", ".join(f"{key}: {theirs.get(key)}" for key in differing)
        raise CheckpointError(
            f"study {study.name}: training.start_from: {study.training.start_from} has a different "
            f"network. Set in training.network {wanted}"
        )
    weights = content["weights"]
    weights = weights[0] if isinstance(weights, list) else weights
    known = {_bare(name): tensor for name, tensor in weights.items()}
    channels = _channels(content, study, model)
    for name, tensor in network.state_dict().items():
        found = known.get(_bare(name))
        if found is None:
            continue
        if found.shape == tensor.shape:
            tensor.copy_(found)
        elif found.shape[2:] == tensor.shape[2:] and tensor.shape[:2] == (
            len(found),
            len(channels),
        ):
            for own, theirs in enumerate(channels):  # a first layer: its inputs are matched
                if theirs is not None:
                    tensor[:, own] = found[:, theirs]


def _content(study: Study, model: str) -> dict:
    """Read the checkpoint that a model starts from.

    It is the other study's model of the same name, or the general model for the first structure.
    """
    source = study.training.start_from
    if source != GENERAL:
        return read_checkpoint(load_study(source).model_folder(model) / "checkpoint.pt")
    structure = STRUCTURES[study.models[model].task][0]
    parts = read_general()["models"]
    return next(part for part in parts if structure in STRUCTURES[part["task"]])


def _bare(name: str) -> str:
    """A tensor's name without the prefix of the wrapper around networks for regions."""
    return name.removeprefix("network.")


def _channels(content: dict, study: Study, model: str) -> list[int | None]:
    """For each of our input channels, the number of theirs with the same content, or None."""
    view = CONFIGURATIONS[content["inputs"]].views[0]
    ours = CONFIGURATIONS[study.models[model].inputs].views[0]
    found = [view.index(modality) if modality in view else 0 for modality in ours]
    if "regions" in STRUCTURES[study.models[model].task]:
        placed = "regions" in STRUCTURES[content["task"]]
        found += [len(view) + k if placed else None for k in range(PLACE_CHANNELS)]
    return found
