"""Prediction: from a model and a person's images to lesions and regions on the images' grid."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch

from wmh.atlas.regions import mirror_labels
from wmh.images import Image, ImageError, resample_to
from wmh.learning.cut import SlicePlan, as_thick, normalise, plan_slices
from wmh.learning.devices import MEMORY_OF, autocast, when_out_of_memory
from wmh.learning.inputs import MODALITIES, show
from wmh.learning.models import Model
from wmh.learning.volumes import logits_of_slices
from wmh.settings import Evaluation

AS_IS = Evaluation()
"""The default settings of prediction."""

RIGHT = 2
"""Axis of slices (N, C, H, W) that runs from left to right."""

TISSUE = 0.25
"""Normalised intensity above which a pixel counts as tissue; the tissue's median is near 1."""

BLANK = 0.02
"""A slice of a modality is blank if it shows less than this share of the other's tissue."""


@dataclass(frozen=True)
class Prediction:
    """A model's prediction, as arrays on the grid of ``like``.

    ``images`` are the given ones, all on that grid. ``probability`` is the lesion probability
    (0 to 1), ``regions`` holds labels 0 to 36; each is None if the model does not predict it.
    """

    like: Image
    images: dict[str, Image]
    probability: np.ndarray | None
    regions: np.ndarray | None

    def lesions(self, threshold: float) -> np.ndarray:
        """The lesion mask: where the probability is at least ``threshold``."""
        return (self.probability >= threshold).astype(np.uint8)


@dataclass(frozen=True)
class Prepared:
    """A person's images on one grid, and cut into slices (N, 2, H, W) of the original thickness."""

    given: tuple[str, ...]
    like: Image
    images: dict[str, Image]
    plan: SlicePlan
    slices: torch.Tensor


def prepare(images: Mapping[str, Image], voxel_size_mm: float | None) -> Prepared:
    """Bring images to one grid, normalise and cut them; a modality that is not given is blank.

    The grid is that of the FLAIR, or of the T1 when it is alone. A T1 on another grid is resampled
    to the FLAIR's through the headers.
    """
    given = tuple(modality for modality in MODALITIES if modality in images)
    like = images[given[0]]
    aligned = {modality: resample_to(images[modality], like) for modality in given}
    plan = plan_slices(like, voxel_size_mm)
    stacks = {modality: plan.to_slices(normalise(image)) for modality, image in aligned.items()}
    blank = torch.zeros_like(stacks[given[0]])
    slices = torch.stack([stacks.get(modality, blank) for modality in MODALITIES], dim=1)
    return Prepared(given, like, aligned, plan, slices)


def predict(model: Model, images: Mapping[str, Image], settings: Evaluation = AS_IS) -> Prediction:
    """Predict from the given images, ``{"FLAIR": ..., "T1": ...}`` or one of the two.

    The prediction has the grid that :func:`prepare` chooses; ``settings`` are the study's. Raises
    :class:`ImageError` when the model cannot predict from these images, or memory runs out.
    """
    if not model.configuration.views_for(images):
        raise ImageError(
            next((image.path for image in images.values()), None),
            f"model {model.name!r} ({model.configuration.title}) cannot predict from "
            f"{' and '.join(images)}",
            "Choose another model, or give the image it needs",
        )
    return predict_prepared(model, prepare(images, model.voxel_size_mm), settings)


@torch.inference_mode()
def predict_prepared(model: Model, person: Prepared, settings: Evaluation = AS_IS) -> Prediction:
    """Predict from images that were prepared at the model's voxel size.

    Slices thinner than those that the model was trained on are averaged with their neighbours.
    """
    plan, given = person.plan, person.given
    stack = as_thick(person.slices, plan.thickness_mm, model.slice_thickness_mm)
    first, end = plan.span
    inside = stack[first:end]
    parted = model.settings.dimensions == 2  # a 3-D network needs all slices together
    parts = -(-len(inside) // settings.slices_at_once) if parted else 1
    answers: dict[str, torch.Tensor] = {}
    for part in (slice(start, None, parts) for start in range(parts)):
        images, depth_mm = inside[part], plan.depth_mm[part]
        with when_out_of_memory(partial(_too_large, model, person, images.shape, parted)):
            found = _answer(model, images, depth_mm, given, settings.mirroring)
        for name, answer in found.items():
            whole = answers.setdefault(name, answer.new_zeros(len(stack), *answer.shape[1:]))
            whole[first:end][part] = answer  # slices above and below the head stay empty
    return Prediction(
        like=person.like,
        images=person.images,
        probability=plan.to_volume(answers["lesions"]) if "lesions" in answers else None,
        regions=plan.labels_to_volume(answers["regions"]) if "regions" in answers else None,
    )


def _answer(
    model: Model,
    images: torch.Tensor,
    depth_mm: torch.Tensor,
    given: Collection[str],
    mirroring: bool,
) -> dict[str, torch.Tensor]:
    """Lesion probabilities (N, H, W) and region labels (N, H, W) of a person's slices.

    Slices in which one image is blank, such as a T1 that covers part of the FLAIR, are predicted
    from the other image as if it had been given alone.
    """
    images, depth_mm = images.to(model.device), depth_mm.to(model.device)
    shown = shows_head(images, given)
    whole = torch.stack(list(shown.values())).all(dim=0)
    scores = _scores(model, images, depth_mm, given, mirroring, whole)
    for modality in given:
        alone = ~whole & shown[modality]
        if alone.any() and model.configuration.views_for((modality,)):
            by_one = _scores(model, images, depth_mm, (modality,), mirroring, shown[modality])
            for name, score in by_one.items():
                scores[name][alone] = score[alone].to(scores[name].dtype)
    return {
        # max finds the class in half the time of argmax
        name: (score[:, 1] if name == "lesions" else score.max(dim=1).indices).cpu()
        for name, score in scores.items()
    }


def _scores(
    model: Model,
    images: torch.Tensor,
    depth_mm: torch.Tensor,
    given: Collection[str],
    mirroring: bool,
    shown: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Probabilities (N, classes, H, W) of each structure from the given modalities, averaged.

    Regions that are predicted only once keep their logits, whose largest is the most probable.
    """
    scores: dict[str, torch.Tensor] = {}
    sides = (False, True) if mirroring else (False,)
    ways = list(product(model.configuration.views_for(given), sides, model.networks))
    for view, mirrored, network in ways:
        seen = show(images, view, given)
        seen = seen.flip(RIGHT) if mirrored else seen
        with autocast(model.device, "auto", model.settings.dimensions):
            logits = logits_of_slices(network, seen, depth_mm, model.settings, shown)
        for name, score in logits.items():
            if name == "lesions" or len(ways) > 1:
                score = score.float().softmax(dim=1) / len(ways)
            score = mirrored_back(score, name) if mirrored else score
            scores[name] = scores[name] + score if name in scores else score
    return scores


def shows_head(images: torch.Tensor, given: Collection[str]) -> dict[str, torch.Tensor]:
    """For each modality, the slices (N,) of images (N, 2, H, W) in which it is not blank."""
    tissue = {
        modality: (images[:, MODALITIES.index(modality)] > TISSUE).sum(dim=(1, 2))
        for modality in given
    }
    most = torch.stack(list(tissue.values())).amax(dim=0)
    return {modality: count >= BLANK * most for modality, count in tissue.items()}


def mirrored_back(probability: torch.Tensor, structure: str) -> torch.Tensor:
    """Turn probabilities (N, classes, H, W) of mirrored slices into those of the slices themselves.

    Left and right regions exchange their classes; lesions have no side.
    """
    back = probability.flip(RIGHT)
    if structure == "regions":
        back = back[:, torch.as_tensor(mirror_labels(), device=back.device).long()]
    return back


def _too_large(model: Model, person: Prepared, size: tuple[int, ...], parted: bool) -> ImageError:
    """The error for running out of memory with so many slices (N, C, H, W) at once."""
    count, _, height, width = size
    device = model.device.type
    fewer = f"lower evaluation.slices_at_once to {count // 2}, or " if parted and count > 1 else ""
    elsewhere = "set compute.device to cpu"
    remedy = fewer + ("predict one subject at a time (--jobs 1)" if device == "cpu" else elsewhere)
    return ImageError(
        person.like.path,
        f"{MEMORY_OF[device]} ran out while model {model.name!r} predicted {count} slices of "
        f"{height} x {width} at once",
        remedy[0].upper() + remedy[1:],
    )
