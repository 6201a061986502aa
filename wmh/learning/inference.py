"""From a checkpoint and a person's images to lesions and regions on the images' own grid."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from wmh.images import Image, ImageError, resample_to
from wmh.learning.inputs import CONFIGURATIONS, MODALITIES, InputConfiguration, View, show, shown
from wmh.learning.networks import batch_norms, build_network, normalise_by_batch, to_device
from wmh.learning.slices import cut, normalise
from wmh.learning.training import autocast
from wmh.learning.volumes import logits_of_slices
from wmh.study import NetworkSettings, Study

SLICES_AT_ONCE = 16

Piece = tuple[torch.Tensor, torch.Tensor]
"""Some slices (B, 2, H, W) and their depth below the crown (B,) in mm."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message names the file and what to do."""


@dataclass(frozen=True)
class Model:
    """A trained network, ready to predict."""

    name: str
    task: str
    configuration: InputConfiguration
    network: nn.Module
    settings: NetworkSettings
    voxel_size_mm: float | None
    study: str
    step: int

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(self.network.parameters()).device


@dataclass(frozen=True)
class Prediction:
    """What a model answers, as arrays on the grid of ``like``; None for what it does not predict.

    ``images`` are the given ones, all on that grid. ``probability`` is the lesion probability
    (0 to 1), ``regions`` hold labels 0 to 36.
    """

    like: Image
    images: dict[str, Image]
    probability: np.ndarray | None
    regions: np.ndarray | None

    def lesions(self, threshold: float) -> np.ndarray:
        """The lesion mask: where the probability is at least ``threshold``."""
        return (self.probability >= threshold).astype(np.uint8)


def load_model(checkpoint: Path | str, device: torch.device | str = "cpu") -> Model:
    """Load a trained model. Raises :class:`CheckpointError` for a missing or foreign file."""
    path = Path(checkpoint)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint. Train it first: ./run_all.sh STUDY")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        configuration = CONFIGURATIONS[content["inputs"]]
        settings = NetworkSettings(**content["network"])
        network = build_network(settings, configuration.channels, content["task"])
        network.load_state_dict(content["weights"])
    except (KeyError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of this version ({error}). Train the study again"
        ) from error
    network = to_device(network, device).eval()
    return Model(
        name=content["model"],
        task=content["task"],
        configuration=configuration,
        network=network,
        settings=settings,
        voxel_size_mm=content["voxel_size_mm"],
        study=content["study"],
        step=content["step"],
    )


def choose_model(study: Study, task: str, given: Iterable[str]) -> str:
    """Choose the study's model of a task for the given modalities.

    The one trained on exactly these comes first, then any that was trained to answer from some of
    them alone. Raises :class:`CheckpointError` when the study has none.
    """
    given = set(given)
    names = study.models_of(task)
    views = {name: CONFIGURATIONS[study.models[name].inputs].views for name in names}
    exact = [name for name in names if any(shown(view) == given for view in views[name])]
    able = [name for name in names if any(shown(view) <= given for view in views[name])]
    specialists = sorted(exact, key=lambda name: len(views[name]))
    if not able:
        raise CheckpointError(
            f"study {study.name}: no {task} model answers from {' and '.join(sorted(given))} "
            "alone; add one with interchangeable inputs to the study"
        )
    return (specialists or able)[0]


@torch.inference_mode()
def predict(model: Model, images: Mapping[str, Image]) -> Prediction:
    """Predict from the given images, ``{"FLAIR": ..., "T1": ...}`` or one of the two.

    The answer lies on the grid of the FLAIR, or of the T1 when it is alone; a T1 on another grid is
    brought to the FLAIR's through the headers. Raises :class:`ImageError` when the model cannot
    answer from what is given.
    """
    given = tuple(modality for modality in MODALITIES if modality in images)
    views = model.configuration.views_for(given)
    if not views:
        raise ImageError(
            next((image.path for image in images.values()), None),
            f"model {model.name!r} ({model.configuration.title}) cannot answer from {given}",
            "Choose another model, or give the image it needs",
        )
    like = images[given[0]]
    aligned = {modality: resample_to(images[modality], like) for modality in given}
    plan = cut(like, model.voxel_size_mm)
    stacks = {m: plan.slices(normalise(image)) for m, image in aligned.items()}
    blank = torch.zeros_like(stacks[given[0]])
    stack = torch.stack([stacks.get(modality, blank) for modality in MODALITIES], dim=1)
    first, end = plan.span
    at_once = SLICES_AT_ONCE if model.settings.dimensions == 2 else end - first
    pieces = (part.split(at_once) for part in (stack[first:end], plan.depth_mm))
    batches = list(zip(*pieces, strict=True))
    networks = {view: _adapted(model, batches, view, given) for view in views}
    answers = [_answer(networks, model, batch, given) for batch in batches]
    outside = (0, 0, 0, 0, first, len(stack) - end)  # no head there: no lesion and no region
    joined = {
        name: functional.pad(torch.cat([answer[name] for answer in answers]), outside)
        for name in answers[0]
    }
    return Prediction(
        like=like,
        images=aligned,
        probability=plan.volume(joined["lesions"]) if "lesions" in joined else None,
        regions=plan.labels(joined["regions"]) if "regions" in joined else None,
    )


def _adapted(
    model: Model, batches: Sequence[Piece], view: View, given: tuple[str, ...]
) -> nn.Module:
    """A copy of the network that normalises a view by this person's own statistics.

    Scanners differ in more than gain. Batch statistics learned on the training scanners are
    replaced by those of the person's slices, as in training, where every batch was normalised by
    its own (adaptive batch normalisation; Li et al. 2017). No weight changes.
    """
    network = normalise_by_batch(copy.deepcopy(model.network))
    for layer in batch_norms(network):
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
    for batch in batches:
        _logits(network, model, batch, view, given)
    return network.eval()


def _logits(
    network: nn.Module, model: Model, batch: Piece, view: View, given: tuple
) -> dict[str, torch.Tensor]:
    """The network's logits for a view of some slices."""
    images, depth_mm = (part.to(model.device) for part in batch)
    with autocast(model.device, "auto"):
        return logits_of_slices(network, show(images, view, given), depth_mm, model.settings)


def _answer(
    networks: Mapping[View, nn.Module], model: Model, batch: Piece, given: tuple
) -> dict[str, torch.Tensor]:
    """Lesion probabilities (B, H, W) and region labels (B, H, W) of some slices."""
    logits = [_logits(network, model, batch, view, given) for view, network in networks.items()]
    mean = {
        name: sum(answer[name].float().softmax(dim=1) for answer in logits) / len(logits)
        for name in logits[0]
    }
    result = {}
    if "lesions" in mean:
        result["lesions"] = mean["lesions"][:, 1].cpu()
    if "regions" in mean:
        result["regions"] = mean["regions"].argmax(dim=1).cpu()
    return result
