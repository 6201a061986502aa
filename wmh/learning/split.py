"""The training subjects of a model, divided into those to learn from and those to validate on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from wmh.cohorts.cohort import CohortError, Subject, of_split, read_cohort, validation_split
from wmh.files import write_table
from wmh.learning.devices import fits
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.prepare import prepared_slices
from wmh.learning.slices import CPU, Slices
from wmh.study import Study


def split_training(study: Study) -> tuple[list[Subject], list[Subject]]:
    """The study's subjects to learn from and to validate on, the same for all its models.

    With ``training.folds``, each repeat of the study validates on another fold. Without it, all
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
    """The fold, 1 to ``folds``, of each person with all their sessions.

    People are dealt to the folds scanner by scanner. Folds therefore differ by at most one person,
    for each scanner and in total. Raises :class:`CohortError` for fewer people than folds.
    """
    generator, order = np.random.default_rng(seed), []
    for scanner in sorted({s.scanner for s in subjects}):
        people = sorted({s.person for s in subjects if s.scanner == scanner} - set(order))
        order += generator.permutation(people).tolist()
    if len(order) < folds:
        raise CohortError(
            f"{len(order)} people in the training split are too few for training.folds: {folds}; "
            "set it to fewer"
        )
    return {person: number % folds + 1 for number, person in enumerate(order)}


def training_slices(study: Study, model: str) -> tuple[Slices, Slices]:
    """Slices to learn from and to validate on; the split is written to ``split.csv``.

    A model of regions leaves out people whose regions are not known.

    Raises :class:`CohortError` when the lesion masks, or the region labels, of all people in a part
    are empty.
    """
    parts = dict(zip(("learn", "validate"), split_training(study), strict=True))
    if study.models[model].task == "regions" and study.regions.atlas == "known":
        parts = {part: [s for s in people if s.true_regions] for part, people in parts.items()}
    rows = [(s.id, s.scanner, part) for part, subjects in parts.items() for s in subjects]
    table = pd.DataFrame(rows, columns=["id", "scanner", "part"])
    write_table(table, study.model_folder(model) / "split.csv")
    structures = STRUCTURES[study.models[model].task]
    learn, validate = (
        prepared_slices(study, subjects, "regions" in structures) for subjects in parts.values()
    )
    for slices, (part, subjects) in zip((learn, validate), parts.items(), strict=True):
        for structure in structures:
            if not slices.holds[structure].any():
                raise _nothing_of(structure, study, part, subjects)
    storage = study.slices.storage
    if storage == "disk" or (storage == "auto" and not fits(learn.nbytes + validate.nbytes, CPU)):
        return learn, validate
    return learn.in_memory(), validate.in_memory()


def _nothing_of(
    structure: str, study: Study, part: str, subjects: Sequence[Subject]
) -> CohortError:
    purpose = {"learn": "to learn from", "validate": "to validate on"}[part]
    everyone = f"all {len(subjects)} subjects {purpose}"
    if structure == "lesions":
        return CohortError(
            f"{subjects[0].lesions}: empty, and so are the lesion masks of {everyone}. Check that "
            "they hold 1 where there is lesion (wmh check)"
        )
    labels = study.region_labels(subjects[0].id)
    return CohortError(
        f"{labels}: empty, and so are the region labels of {everyone}. Run notebook 02 again"
    )
