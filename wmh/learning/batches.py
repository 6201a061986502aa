"""Training batches: slices of a few people, or patches of volumes, drawn and augmented."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from wmh.learning.augment import apply, draw
from wmh.learning.cut import centred
from wmh.learning.devices import send
from wmh.learning.inputs import CONFIGURATIONS, InputConfiguration, View, show
from wmh.learning.losses import labels_for, pixels
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.slices import Slices
from wmh.learning.volumes import draw_patches
from wmh.settings import Training
from wmh.study import Study


@dataclass
class Part:
    """Images (B, channels, ...) of one size, labels (B, ...) by structure, and their position.

    ``where`` is the depth below the crown (B,) for slices, and the place (B, 3, 2) for patches of
    volumes; see :func:`wmh.learning.networks.place.place`.
    """

    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    where: torch.Tensor


@dataclass
class Batch:
    """Augmented slices, in one part per person with the person's own window, or patches.

    Patches of volumes are not sorted by person and form one part. ``subjects`` are the ids of all
    people in the batch.
    """

    parts: list[Part]
    subjects: tuple[str, ...]

    @property
    def labels(self) -> dict[str, torch.Tensor]:
        """Labels of every pixel by structure, (pixels,), in the same order as :meth:`logits`."""
        return {
            name: torch.cat([part.labels[name].flatten() for part in self.parts])
            for name in self.parts[0].labels
        }

    def logits(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """A network's logits of every pixel by structure, (pixels, classes); part by part."""
        answers = [network(part.images, part.where) for part in self.parts]
        return {
            name: torch.cat([pixels(answer[name]).float() for answer in answers])
            for name in answers[0]
        }


def first_batch(study: Study, model: str, learn: Slices) -> Batch:
    """The first batch that a model is trained on; see :func:`draw_batch`."""
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

    ``structure_slices_share`` of it is drawn among slices that hold the task's structure (lesion
    or, for region tasks, any region), the rest among all slices. If a configuration has several
    views, one is drawn for the whole batch, so that batch normalisation never mixes modalities.
    """
    structures = STRUCTURES[task]
    labelled = labels_for(structures, training.loss)
    if training.network.dimensions == 2:
        people = min(training.people_a_batch, len(slices.ids))
        drawn = draw_slices(slices, structures[0], people, training, generator)
        parts = [_slices_of_a_person(slices, labelled, numbers) for numbers in drawn]
        subjects = slices.subject[torch.stack(drawn)]
    else:
        share = training.structure_slices_share if "lesions" in structures else 0.0
        patches = draw_patches(slices, share, training, generator)
        labels = {name: patches.of(stack) for name, stack in slices.stacks(labelled).items()}
        parts = [Part(patches.of(slices.images), labels, patches.where(slices))]
        subjects = slices.subject[patches.low[:, 2]]
    view = configuration.views[
        int(torch.randint(len(configuration.views), (), generator=generator))
    ]
    parts = [_augmented(part, view, slices.device, training, generator) for part in parts]
    return Batch(parts, tuple(slices.ids[number] for number in subjects.unique()))


def draw_slices(
    slices: Slices, structure: str, people: int, training: Training, generator: torch.Generator
) -> list[torch.Tensor]:
    """Draw people, then slice numbers of each person: parts of equal size that form a batch.

    ``structure_slices_share`` of each part is drawn among the person's slices with the structure.
    """
    count = training.batch_size // people
    with_structure = round(training.structure_slices_share * count)
    chosen = []
    for person in draw_people(slices, people, training.further_share, generator):
        every = torch.arange(*slices.spans[person].tolist())
        holding = every[slices.holds[structure][every]]
        numbers = []
        for among, wanted in ((holding, with_structure), (every, count - with_structure)):
            among = among if len(among) else every
            numbers.append(among[torch.randint(len(among), (wanted,), generator=generator)])
        chosen.append(torch.cat(numbers))
    return chosen


def draw_people(
    slices: Slices, people: int, further_share: float, generator: torch.Generator
) -> list[int]:
    """Draw people without replacement; on average ``further_share`` of them are further people."""
    order = torch.randperm(len(slices.ids), generator=generator)
    if any(slices.further):
        further = torch.tensor(slices.further)[order]
        wanted = int((torch.rand(people, generator=generator) < further_share).sum())
        chosen, others = order[further], order[~further]
        order = torch.cat([chosen[:wanted], others[: people - min(wanted, len(chosen))], chosen])
    return order[:people].tolist()


def _slices_of_a_person(slices: Slices, structures: Iterable[str], numbers: torch.Tensor) -> Part:
    """Slices of one person, by their numbers, in the person's own window."""
    window = slices.windows[int(slices.subject[numbers[0]])]
    there = numbers.to(slices.images.device, non_blocking=True)
    labels = slices.labels(structures, there)
    return Part(
        images=centred(slices.images[there], window),
        labels={name: centred(stack, window) for name, stack in labels.items()},
        where=slices.depth_mm[numbers],
    )


def _augmented(
    part: Part, view: View, device: torch.device, training: Training, generator: torch.Generator
) -> Part:
    """A part after augmentation, as the network sees it, on the device."""
    images = show(send(part.images, device), view).float()  # only the modalities of the view
    labels = {name: send(stack, device) for name, stack in part.labels.items()}
    drawn = draw(tuple(images.shape), training.augmentation, generator)
    images, labels = apply(images, labels, drawn)
    blank = [channel for channel, modality in enumerate(view) if modality is None]
    images[:, blank] = 0  # blank channels must not hold noise either
    return Part(images, labels, send(part.where, device))
