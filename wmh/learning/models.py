"""Trained models: the content of their checkpoints, reading them, and choosing one.

Checkpoints hold tensors and plain values but no code, and are read with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from wmh.learning.inputs import CONFIGURATIONS, InputConfiguration, shown
from wmh.learning.networks.build import build_network, to_device
from wmh.learning.slices import Slices
from wmh.provenance import commit_here, versions_here
from wmh.settings import NetworkSettings
from wmh.study import Study


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message names the file and what to do."""


@dataclass(frozen=True)
class Model:
    """A trained network that is ready to predict, or several whose probabilities are averaged.

    ``slice_thickness_mm`` is :attr:`wmh.learning.slices.Slices.thickness_mm` of its training
    subjects. ``versions``, ``commit`` and ``dirty`` describe the code that trained it.
    """

    name: str
    task: str
    configuration: InputConfiguration
    networks: tuple[nn.Module, ...]
    settings: NetworkSettings
    voxel_size_mm: float | None
    slice_thickness_mm: float
    study: str
    step: int
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None

    @property
    def device(self) -> torch.device:
        """Device that holds the weights."""
        return next(self.networks[0].parameters()).device


def facts_of(study: Study, model: str) -> dict[str, object]:
    """The facts that a model's checkpoint states, and that its study must agree with."""
    settings = study.models[model]
    return {
        "study": study.name,
        "model": model,
        "task": settings.task,
        "inputs": settings.inputs,
        "network": study.training.network.model_dump(mode="json"),
        "voxel_size_mm": study.slices.voxel_size_mm,
        "seed": study.seed,
        "repeat": study.repeat,
    }


def origin_of(study: Study, model: str, learn: Slices, validate: Slices) -> dict[str, object]:
    """What a model is trained with, as plain values: settings, subjects, device, code.

    ``commit``, and ``dirty`` (whether files differ from it), are None outside a git checkout.
    """
    settings = {"model": study.models[model], "training": study.training, "slices": study.slices}
    return {
        "settings": {name: part.model_dump(mode="json") for name, part in settings.items()},
        "slice_thickness_mm": learn.thickness_mm,
        "split": {"learn": list(learn.ids), "validate": list(validate.ids)},
        "device": learn.device.type,
        "threads": study.compute.threads,
        "versions": versions_here(),
        **commit_here(),
    }


def load_model(checkpoint: Path | str, device: torch.device | str = "cpu") -> Model:
    """Load a trained model of any study; raises as :func:`read_checkpoint`."""
    return model_of(read_checkpoint(checkpoint, device), checkpoint, device)


def load_model_of(study: Study, model: str, device: torch.device | str = "cpu") -> Model:
    """Load a model of a study.

    Raises :class:`CheckpointError` when its checkpoint does not agree with the study, for instance
    in the architecture or the inputs; the message names all differences.
    """
    path = study.model_folder(model) / "checkpoint.pt"
    content = read_checkpoint(path, device)
    found, said = _flat(content), _flat(facts_of(study, model))
    differing = [
        f"{key} {found.get(key)} (the study has {wanted})"
        for key, wanted in said.items()
        if found.get(key) != wanted
    ]
    if differing:
        raise CheckpointError(
            f"{path}: trained with {', '.join(differing)}. Train it again (./run_all.sh "
            f"{study.name}), or restore the study's settings"
        )
    return model_of(content, path, device)


def choose_model(study: Study, task: str, given: Iterable[str]) -> str:
    """Choose the study's model of a task for the given modalities.

    A model trained on exactly these modalities is preferred to one that was trained to predict from
    some of them. If the study has no model for the task alone, its multitask model is used. Raises
    :class:`CheckpointError` when the study has none.
    """
    given = set(given)
    names = study.models_of(task) or study.models_of("multitask")
    if not names:
        raise CheckpointError(
            f"study {study.name}: no model finds {task}; add one of task {task} or multitask to it"
        )
    views = {name: CONFIGURATIONS[study.models[name].inputs].views for name in names}
    exact = [name for name in names if any(shown(view) == given for view in views[name])]
    able = [name for name in names if any(shown(view) <= given for view in views[name])]
    specialists = sorted(exact, key=lambda name: len(views[name]))
    if not able:
        raise CheckpointError(
            f"study {study.name}: no {task} model can predict from {' and '.join(sorted(given))} "
            "alone; add one with interchangeable inputs to the study"
        )
    return (specialists or able)[0]


def read_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> dict:
    """Read a checkpoint: tensors and plain values.

    Raises :class:`CheckpointError` for a missing file, or one that is not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such checkpoint. Train it first: notebook 03 or 04, or ./run_all.sh STUDY"
        )
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise _no_checkpoint(path, error) from error
    if not isinstance(content, dict):
        raise _no_checkpoint(path, TypeError(f"it holds a {type(content).__name__}"))
    return content


def model_of(content: dict, path: Path | str, device: torch.device | str = "cpu") -> Model:
    """The model that a checkpoint's content describes; ``path`` is named in errors."""
    try:
        configuration = CONFIGURATIONS[content["inputs"]]
        settings = NetworkSettings(**content["network"])
        weights = content["weights"]
        networks = []
        for state in weights if isinstance(weights, list) else [weights]:
            network = build_network(settings, configuration.channels, content["task"])
            # encoders in older checkpoints also hold layers below the depth that is used
            network.load_state_dict({name: state[name] for name in network.state_dict()})
            networks.append(to_device(network, device).eval())
        of_code = {"versions", "commit", "dirty"} & content.keys()
        return Model(
            content["model"],
            content["task"],
            configuration,
            tuple(networks),
            settings,
            *(content[k] for k in ("voxel_size_mm", "slice_thickness_mm", "study", "step")),
            **{name: content[name] for name in of_code},
        )
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise _no_checkpoint(path, error) from error


def _no_checkpoint(path: Path | str, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0].rstrip(".: ")
    return CheckpointError(
        f"{path}: not a checkpoint of this version ({reason}). Train the study again"
    )


def _flat(facts: dict) -> dict[str, object]:
    """The facts by their names in messages, with each setting of the network separately."""
    network = facts.get("network") or {}
    own = ("study", "model", "repeat", "seed", "task", "inputs", "voxel_size_mm")
    return {key: facts.get(key) for key in own} | {f"network.{k}": v for k, v in network.items()}
