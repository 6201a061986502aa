"""Batches to train on: slices of a few people, or patches of volumes, drawn and augmented."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wmh.learning.augment import apply, draw
from wmh.learning.devices import send
from wmh.learning.inputs import CONFIGURATIONS, InputConfiguration, show
from wmh.learning.networks import STRUCTURES
from wmh.learning.slices import Slices
from wmh.learning.volumes import draw_patches
from wmh.study import Study, Training


@dataclass
class Person:
    """Images of one person (B, channels, ...), and where they lie, as in :class:`Batch`."""

    images: torch.Tensor
    where: torch.Tensor


@dataclass
class Batch:
    """Augmented images (B, channels, ...), labels (B, ...) by structure, and where they lie.

    Slices come with their depth below the crown (B,), patches of volumes with a place (B, 3, 2).
    Slices of ``people_drawn`` people are equal parts of the batch, one after the other.
    ``subjects`` are the ids of all who are in it.
    """

    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    where: torch.Tensor
    subjects: tuple[str, ...]
    people_drawn: int = 1

    @property
    def people(self) -> list[Person]:
        """Each person's part. Patches of volumes are not sorted by person and stay together."""
        size = len(self.images) // self.people_drawn
        parts = zip(self.images.split(size), self.where.split(size), strict=True)
        return [Person(*part) for part in parts]


def first_batch(study: Study, model: str, learn: Slices) -> Batch:
    """The first batch a model is trained on, as :func:`draw_batch` gives it."""
    settings = study.models[model]
    generator = torch.Generator().manual_seed(study.seed_for("train", model, 0))
    configuration = CONFIGURATIONS[settings.inputs]
    return draw_batch(learn, configuration, settings.task, study.training, generator)


def draw_batch(
    slices: Slices,
    configuration: InputConfiguration,
    task: str,
    training: Training,
    generator: torch.Generator,
) -> Batch:
    """Draw and augment a batch.

    A share of it is drawn among slices that hold what the task is about: lesion or, for region
    tasks, any region; the rest among all slices. A configuration with several views shows one of
    them, drawn for the batch, so that batch normalisation never mixes modalities.
    """
    structures = STRUCTURES[task]
    people = 1
    if training.network.dimensions == 2:
        people = min(training.people_a_batch, len(slices.ids))
        chosen = draw_slices(slices, structures[0], people, training, generator)
        where, subjects = slices.depth_mm[chosen], slices.subject[chosen]
        chosen = chosen.to(slices.images.device, non_blocking=True)
        images, labels = slices.images[chosen], slices.labels(structures, chosen)
    else:
        share = training.structure_slices_share if "lesions" in structures else 0.0
        patches = draw_patches(slices, share, training, generator)
        images, where = patches.of(slices.images), patches.where(slices)
        subjects = slices.subject[patches.low[:, 2]]
        labels = {name: patches.of(stack) for name, stack in slices.stacks(structures).items()}
    images, where = send(images, slices.device), send(where, slices.device)
    labels = {name: send(stack, slices.device) for name, stack in labels.items()}
    view = configuration.views[
        int(torch.randint(len(configuration.views), (), generator=generator))
    ]
    images = show(images.float(), view)
    drawn = draw(tuple(images.shape), training.augmentation, generator)
    images, labels = apply(images, labels, drawn)
    blank = [channel for channel, modality in enumerate(view) if modality is None]
    images[:, blank] = 0  # of the noise, too
    named = tuple(slices.ids[number] for number in subjects.unique())
    return Batch(images, labels, where, named, people)


def draw_slices(
    slices: Slices, structure: str, people: int, training: Training, generator: torch.Generator
) -> torch.Tensor:
    """Draw people, then numbers of slices of each: equal parts that make up a batch.

    The study's share of each part is drawn among the person's slices that hold the structure.
    """
    count = training.batch_size // people
    with_structure = round(training.structure_slices_share * count)
    chosen = []
    for person in torch.randperm(len(slices.ids), generator=generator)[:people].tolist():
        every, holding = slices.numbers_of(person), slices.holding(structure, person)
        for among, wanted in ((holding, with_structure), (every, count - with_structure)):
            among = among if len(among) else every
            chosen.append(among[torch.randint(len(among), (wanted,), generator=generator)])
    return torch.cat(chosen)
