"""Files that a training leaves: the state to go on from, and the checkpoint to predict with.

A cut at any moment leaves the last whole file. Files are read with ``weights_only=True``: they hold
tensors and plain values, no code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from wmh.dependencies import code_of
from wmh.files import complete, write_table
from wmh.learning.slices import Slices
from wmh.provenance import commit_here, versions_here
from wmh.study import Study


@dataclass
class State:
    """A training under way: what a checkpoint must hold to go on from it."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    log_variances: nn.ParameterDict
    """Of each structure's loss, where the study has them learned."""
    step: int = 0
    best_dice: float = -1.0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def identity_of(study: Study, model: str, *data: Slices) -> dict[str, str]:
    """Return what must be equal for an interrupted training to go on: settings, data and code."""
    settings = (study.models[model], study.training, study.compute)
    return {
        "model": model,
        "seed": f"{study.seed}, repeat {study.repeat}",
        "settings": "".join(part.model_dump_json() for part in settings),
        "data": "/".join(slices.fingerprint() for slices in data),
        "code": code_of("wmh.learning.training"),
        "torch": str(torch.__version__),
    }


def facts_of(study: Study, model: str) -> dict[str, object]:
    """Return the facts of a model that its checkpoint states and its study must share."""
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
    """Return what a model is trained with, as plain values: settings, subjects, device, code.

    ``commit`` and ``dirty`` (files differ from it) are None outside a git checkout.
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


def save_state(run: State, path: Path, identity: dict[str, str]) -> None:
    """Write the state an interrupted training goes on from."""
    _save(
        path,
        {
            "identity": identity,
            "network": run.network.state_dict(),
            "optimiser": run.optimiser.state_dict(),
            "log_variances": run.log_variances.state_dict(),
            "step": run.step,
            "best_dice": run.best_dice,
            "best_weights": run.best_weights,
            "history": run.history,
        },
    )


def restore(run: State, path: Path, identity: dict[str, str], device: torch.device) -> None:
    """Go on from ``resume.pt`` if it is of this very training; else leave ``run`` as it is."""
    if not path.is_file():
        return
    state = torch.load(path, map_location=device, weights_only=True)
    changed = [key for key in identity if state["identity"].get(key) != identity[key]]
    if changed:
        print(f"{path}: of other {', '.join(changed)}; training starts afresh")
        return
    run.network.load_state_dict(state["network"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.log_variances.load_state_dict(state["log_variances"])
    for name in ("step", "best_dice", "best_weights", "history"):
        setattr(run, name, state[name])
    print(f"Going on from step {run.step}")


def finish(run: State, about: dict[str, object], folder: Path) -> Path:
    """Write the learning curve and the checkpoint, and return the checkpoint's path.

    ``about`` is what the checkpoint says of its weights: :func:`facts_of` and :func:`origin_of`.
    """
    table = pd.DataFrame(run.history)
    best = table.steady_dice.idxmax()
    write_table(table, folder / "history.csv")
    path = _save(
        folder / "checkpoint.pt",
        {
            "weights": run.best_weights,
            **about,
            "step": int(table.step[best]),
            "validation_dice": float(table.validation_dice[best]),
        },
    )
    (folder / "resume.pt").unlink(missing_ok=True)
    return path


def _save(path: Path, content: dict) -> Path:
    with complete(path) as part:
        torch.save(content, part)
    return path
