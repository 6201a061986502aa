"""From a checkpoint and a person's images to lesions and regions on the images' own grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import nn

from wmh.images import Image, ImageError, resample_to
from wmh.learning.cut import Cut, cut, normalise
from wmh.learning.devices import autocast
from wmh.learning.inputs import CONFIGURATIONS, MODALITIES, InputConfiguration, View, show, shown
from wmh.learning.networks import build_network, to_device
from wmh.learning.volumes import logits_of_slices
from wmh.study import NetworkSettings, Study

SLICES_AT_ONCE = 64
"""A person with more goes through the network in several parts, each spread over the whole head."""


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


@dataclass(frozen=True)
class Prepared:
    """A person's images on one grid, and cut into slices (N, 2, H, W) as networks see them."""

    given: tuple[str, ...]
    like: Image
    images: dict[str, Image]
    plan: Cut
    slices: torch.Tensor


def prepare(images: Mapping[str, Image], voxel_size_mm: float | None) -> Prepared:
    """Bring images to one grid, normalise and cut them; what is not given is blank.

    The grid is that of the FLAIR, or of the T1 when it is alone; a T1 on another grid is brought to
    the FLAIR's through the headers.
    """
    given = tuple(modality for modality in MODALITIES if modality in images)
    like = images[given[0]]
    aligned = {modality: resample_to(images[modality], like) for modality in given}
    plan = cut(like, voxel_size_mm)
    stacks = {m: plan.slices(normalise(image)) for m, image in aligned.items()}
    blank = torch.zeros_like(stacks[given[0]])
    slices = torch.stack([stacks.get(modality, blank) for modality in MODALITIES], dim=1)
    return Prepared(given, like, aligned, plan, slices)


def predict(model: Model, images: Mapping[str, Image]) -> Prediction:
    """Predict from the given images, ``{"FLAIR": ..., "T1": ...}`` or one of the two.

    The answer lies on the grid that :func:`prepare` chooses. Raises :class:`ImageError` when the
    model cannot answer from what is given.
    """
    if not model.configuration.accepts(images):
        raise ImageError(
            next((image.path for image in images.values()), None),
            f"model {model.name!r} ({model.configuration.title}) cannot answer from "
            f"{' and '.join(images)}",
            "Choose another model, or give the image it needs",
        )
    return predict_prepared(model, prepare(images, model.voxel_size_mm))


@torch.inference_mode()
def predict_prepared(model: Model, person: Prepared) -> Prediction:
    """Predict from images that were prepared at the model's voxel size."""
    plan, stack, given = person.plan, person.slices, person.given
    views = model.configuration.views_for(given)
    first, end = plan.span
    inside = stack[first:end]
    parts = -(-len(inside) // SLICES_AT_ONCE) if model.settings.dimensions == 2 else 1
    answers: dict[str, torch.Tensor] = {}
    for part in (slice(start, None, parts) for start in range(parts)):
        for name, answer in _answer(model, inside[part], plan.depth_mm[part], views, given).items():
            whole = answers.setdefault(name, answer.new_zeros(len(stack), *answer.shape[1:]))
            whole[first:end][part] = answer  # no head above or below: no lesion and no region
    return Prediction(
        like=person.like,
        images=person.images,
        probability=plan.volume(answers["lesions"]) if "lesions" in answers else None,
        regions=plan.labels(answers["regions"]) if "regions" in answers else None,
    )


def _answer(
    model: Model, images: torch.Tensor, depth_mm: torch.Tensor, views: Sequence[View], given: tuple
) -> dict[str, torch.Tensor]:
    """Lesion probabilities (N, H, W) and region labels (N, H, W) of a person's slices."""
    images, depth_mm = images.to(model.device), depth_mm.to(model.device)
    probabilities: dict[str, torch.Tensor] = {}
    for view in views:
        with autocast(model.device, "auto"):
            logits = logits_of_slices(
                model.network, show(images, view, given), depth_mm, model.settings
            )
        for name, scores in logits.items():
            share = scores.float().softmax(dim=1) / len(views)
            probabilities[name] = probabilities[name] + share if name in probabilities else share
    result = {}
    if "lesions" in probabilities:
        result["lesions"] = probabilities["lesions"][:, 1].cpu()
    if "regions" in probabilities:
        result["regions"] = probabilities["regions"].argmax(dim=1).cpu()
    return result
