"""The training subjects of a model, parted into those to learn from and those to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch

from wmh.cohorts.cohort import CohortError, Subject, of_split, read_cohort, validation_split
from wmh.files import write_table
from wmh.learning.memory import fits
from wmh.learning.networks import STRUCTURES
from wmh.learning.slices import Slices, load_slices
from wmh.learning.store import most_bytes, stored_slices
from wmh.study import Study


def split_training(study: Study) -> tuple[list[Subject], list[Subject]]:
    """The study's subjects to learn from and to validate on; the same for all its models.

    With ``training.folds``, each repeat of the study validates on another fold; without, all
    repeats have the same split.
    """
    subjects = of_split(read_cohort(study.results / "cohort.csv"), "training")
    training, seed = study.training, study.of_repeat(1).seed_for("validation")
    if training.folds is None:
        return validation_split(subjects, training.validation_share, seed)
    fold = fold_of([s for s in subjects if not s.further], training.folds, seed)
    validate = [s for s in subjects if fold.get(s.person) == study.repeat]
    return [s for s in subjects if s not in validate], validate


def fold_of(subjects: Sequence[Subject], folds: int, seed: int) -> dict[str, int]:
    """The fold, 1 to ``folds``, of each person, who stays in one with all their sessions.

    People are dealt out scanner by scanner, so that folds differ by at most one person, of each
    scanner and in all. Raises :class:`CohortError` for fewer people than folds.
    """
    generator, order = np.random.default_rng(seed), []
    for scanner in sorted({s.scanner for s in subjects}):
        people = sorted({s.person for s in subjects if s.scanner == scanner} - set(order))
        order += generator.permutation(people).tolist()
    if len(order) < folds:
        raise CohortError(
            f"{len(order)} people to train on cannot make training.folds: {folds}; ask for fewer"
        )
    return {person: place % folds + 1 for place, person in enumerate(order)}


def training_slices(study: Study, model: str) -> tuple[Slices, Slices]:
    """Slices to learn from and to validate on; who is which is written to ``split.csv``.

    People whose regions are not known teach a model of regions nothing, and are left out of it.

    Raises :class:`CohortError` when either part holds nothing of what the model is to find: lesion
    masks that are all empty, or region labels.
    """
    parts = dict(zip(("learn", "validate"), split_training(study), strict=True))
    if study.models[model].task == "regions" and study.regions.atlas == "known":
        parts = {part: [s for s in people if s.true_regions] for part, people in parts.items()}
    rows = [(s.id, s.scanner, part) for part, subjects in parts.items() for s in subjects]
    table = pd.DataFrame(rows, columns=["id", "scanner", "part"])
    write_table(table, study.model_folder(model) / "split.csv")
    needs_regions = "regions" in STRUCTURES[study.models[model].task]
    regions = study.results / "regions" if needs_regions else None
    precision = getattr(torch, study.slices.precision)
    loss, network = study.training.loss, study.training.network
    skeletons = network.dimensions if loss.skeleton_recall else None
    load = load_slices
    if _lie_on_disk(study, [s for subjects in parts.values() for s in subjects]):
        load = partial(stored_slices, study.results / "slices")
    learn, validate = (
        load(subjects, study.slices.voxel_size_mm, regions, precision, skeletons)
        for subjects in parts.values()
    )
    for slices, (part, subjects) in zip((learn, validate), parts.items(), strict=True):
        for structure in STRUCTURES[study.models[model].task]:
            if not slices.holds[structure].any():
                raise _nothing_of(structure, study, part, subjects)
    return learn, validate


def _lie_on_disk(study: Study, subjects: Sequence[Subject]) -> bool:
    """Whether the study keeps slices on disk, or has too many for the machine's memory."""
    if study.slices.storage != "auto":
        return study.slices.storage == "disk"
    precision = getattr(torch, study.slices.precision)
    most = most_bytes(subjects, study.slices.voxel_size_mm, precision)
    return not fits(most, torch.device("cpu"))


def _nothing_of(
    structure: str, study: Study, part: str, subjects: Sequence[Subject]
) -> CohortError:
    everyone = f"all {len(subjects)} subjects to {part} on"
    if structure == "lesions":
        return CohortError(
            f"{subjects[0].lesions}: empty, and so are the lesion masks of {everyone}. Check that "
            "they hold 1 where there is lesion (wmh check)"
        )
    labels = study.results / "regions" / f"{subjects[0].id}.nii.gz"
    return CohortError(
        f"{labels}: empty, and so are the region labels of {everyone}. Run notebook 02 again"
    )
