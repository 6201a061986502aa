"""Weights to start a training from: those of the general model, or of another study's models."""

from __future__ import annotations

from torch import nn

from wmh.learning.general import read_general
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.models import CheckpointError, read_checkpoint
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.networks.place import PLACE_CHANNELS
from wmh.study import Study, load_study

GENERAL = "general"
"""Name in ``training.start_from`` of the weights that come with the package."""


def start_from(network: nn.Module, study: Study, model: str) -> None:
    """Fill a network of the study with the weights that ``training.start_from`` names.

    What inputs and tasks share is taken: of the first layers the channels of the modalities that
    the model sees, of the decoders those of its structures. Raises :class:`CheckpointError` where
    the networks are not alike, in one line that names what to change.
    """
    content = _content(study, model)
    theirs, ours = content["network"], study.training.network.model_dump(mode="json")
    if differing := [key for key in ours if theirs.get(key) != ours[key]]:
        wanted = ", ".join(f"{key}: {theirs.get(key)}" for key in differing)
        raise CheckpointError(
            f"study {study.name}: the network of training.start_from: {study.training.start_from} "
            f"is another. Set in training.network {wanted}"
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
            for own, theirs in enumerate(channels):  # of a first layer
                if theirs is not None:
                    tensor[:, own] = found[:, theirs]


def _content(study: Study, model: str) -> dict:
    """Read what a model starts from: the general model for its first structure, or its namesake."""
    source = study.training.start_from
    if source != GENERAL:
        return read_checkpoint(load_study(source).model_folder(model) / "checkpoint.pt")
    structure = STRUCTURES[study.models[model].task][0]
    parts = read_general()["models"]
    return next(part for part in parts if structure in STRUCTURES[part["task"]])


def _bare(name: str) -> str:
    """A tensor's name without that of the wrapper that networks for regions have."""
    return name.removeprefix("network.")


def _channels(content: dict, study: Study, model: str) -> list[int | None]:
    """For each input channel of ours, that of theirs which shows the same, or None."""
    view = CONFIGURATIONS[content["inputs"]].views[0]
    ours = CONFIGURATIONS[study.models[model].inputs].views[0]
    found = [view.index(modality) if modality in view else 0 for modality in ours]
    if "regions" in STRUCTURES[study.models[model].task]:
        placed = "regions" in STRUCTURES[content["task"]]
        found += [len(view) + k if placed else None for k in range(PLACE_CHANNELS)]
    return found
