"""The stages of a study: its notebooks in the order of the story, and the files each writes."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path

from wmh.study import Study, StudyError

TRAINING_NOTEBOOKS = {
    "03_train_lesions": ("lesions",),
    "04_train_regions_multitask": ("regions", "multitask"),
}
"""Notebooks that run once per model, with the tasks of their models."""

ON_A_CARD = (*TRAINING_NOTEBOOKS, "05_evaluation")
"""Notebooks that compute on the study's device; if that is a GPU, each gets its own."""

NOTEBOOKS = (
    "01_data_preparation",
    "02_atlas_registration",
    *TRAINING_NOTEBOOKS,
    "05_evaluation",
    "06_statistics",
    "07_localization",
    "08_figures",
)


@dataclass(frozen=True)
class Stage:
    """One run of one notebook; training notebooks have a stage for each model and repeat."""

    notebook: str
    model: str | None = None
    repeat: int = 1

    @property
    def name(self) -> str:
        """The name of the stage's files, e.g. ``03_train_lesions_flair_repeat_2``."""
        return self.title.replace(" ", "_")

    @property
    def title(self) -> str:
        """The stage's name on the terminal, e.g. ``03_train_lesions flair repeat 2``."""
        words = [self.notebook, self.model, f"repeat {self.repeat}" if self.repeat > 1 else None]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class StageFiles:
    """The files of a stage other than its tables."""

    executed: Path
    page: Path
    record: Path
    log: Path
    failed: Path


def stages_of(study: Study) -> list[Stage]:
    """All stages of a study, in the order of the story."""
    stages = []
    for notebook in NOTEBOOKS:
        if notebook in TRAINING_NOTEBOOKS:
            models = study.models_of(*TRAINING_NOTEBOOKS[notebook])
            runs = itertools.product(study.repeats(), models)
            stages += [Stage(notebook, model, one.repeat) for one, model in runs]
        else:
            stages.append(Stage(notebook))
    return stages


def find_stage(study: Study, notebook: str, model: str | None = None, repeat: int = 1) -> Stage:
    """The stage that runs a notebook; raises :class:`StudyError` if there is none."""
    stage = Stage(notebook.removesuffix(".ipynb"), model, repeat)
    if stage not in stages_of(study):
        known = "; ".join(known.title for known in stages_of(study))
        raise StudyError(
            f"{stage.title}: not a stage of study {study.name!r}. Its stages are: {known}"
        )
    return stage


def files_of(study: Study, stage: Stage) -> StageFiles:
    """The files that a stage writes to the study's results."""
    results = study.results
    return StageFiles(
        executed=results / "notebooks" / f"{stage.name}.ipynb",
        page=results / "html" / f"{stage.name}.html",
        record=results / "stages" / f"{stage.name}.json",
        log=results / "logs" / f"{stage.name}.log",
        failed=results / "logs" / f"{stage.name}.failed.ipynb",
    )


def settings_of(study: Study, *keys: str) -> str:
    """The settings that a stage depends on, as JSON, by dotted keys such as ``models.flair``.

    ``training.repeats`` is left out, because a stage for one repeat does not depend on the number
    of repeats. Raises ``KeyError`` for a key that no study has.
    """
    settings = study.model_dump(mode="json", exclude={"training": {"repeats"}})
    found = {key: reduce(getitem, key.split("."), settings) for key in keys}
    return json.dumps(found, sort_keys=True)
