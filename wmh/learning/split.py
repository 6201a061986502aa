"""The training subjects of a model, parted into those to learn from and those to validate on."""

from __future__ import annotations

import pandas as pd
import torch

from wmh.cohorts.cohort import Subject, of_split, read_cohort, validation_split
from wmh.learning.networks import STRUCTURES
from wmh.learning.slices import Slices, load_slices
from wmh.study import Study


def split_training(study: Study) -> tuple[list[Subject], list[Subject]]:
    """The study's subjects to learn from and to validate on; the same for all its models."""
    subjects = of_split(read_cohort(study.results / "cohort.csv"), "training")
    share = study.training.validation_share
    return validation_split(subjects, share, study.seed_for("validation"))


def training_slices(study: Study, model: str) -> tuple[Slices, Slices]:
    """Slices to learn from and to validate on; who is which is written to ``split.csv``."""
    parts = dict(zip(("learn", "validate"), split_training(study), strict=True))
    rows = [(s.id, s.scanner, part) for part, subjects in parts.items() for s in subjects]
    folder = study.model_folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["id", "scanner", "part"]).to_csv(folder / "split.csv", index=False)
    needs_regions = "regions" in STRUCTURES[study.models[model].task]
    regions = study.results / "regions" if needs_regions else None
    precision = getattr(torch, study.slices.precision)
    learn, validate = (
        load_slices(subjects, study.slices.voxel_size_mm, regions, precision)
        for subjects in parts.values()
    )
    return learn, validate
