"""Stands in for ``wmh.pipeline.notebook`` where only the order of stages is tested.

Writes what a stage would leave and logs when it began, when it ended and what cores it was given;
trainings and the atlas take a second. The stage named by ``FAILING_STAGE`` fails instead.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from PIL import Image

from wmh.cores import cores_here
from wmh.pipeline.stages import Stage, files_of
from wmh.results import FIGURES, TABLES
from wmh.study import Study, project_root


def draw(folder: Path) -> None:
    """Every figure as one black pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        Image.new("L", (1, 1)).save(folder / f"{name}.png")
        Image.new("L", (1, 1)).save(folder / f"{name}.pdf")
        (folder / f"{name}.txt").write_text("Nothing.")


class StageError(RuntimeError):
    """As the real one."""


def run_notebook(study: Study, stage: Stage) -> None:
    began = time.time()
    time.sleep(1.0 if stage.model or stage.notebook == "02_atlas_registration" else 0.0)
    files = files_of(study, stage)
    if stage.name == os.environ.get("FAILING_STAGE"):
        log = files.log.relative_to(project_root())
        reason = "ValueError: no two subjects"
        raise StageError(f"notebook {stage.title} failed: {reason}. Log: {log}")
    made = [study.table(name) for name in TABLES.get(stage.notebook, ())]
    if stage.model:
        made.append(study.of_repeat(stage.repeat).model_folder(stage.model) / "checkpoint.pt")
    for path in (*made, files.executed, files.page):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id\n")  # a table without rows
    if stage.notebook == "08_figures":
        draw(study.figures)
    files.record.parent.mkdir(parents=True, exist_ok=True)
    cost = '"seconds": 0.3, "peak_memory_mb": 1, "commit": null, "dirty": null'
    files.record.write_text(f'{{"stage": "{stage.name}", {cost}}}')
    with (study.results / "order.txt").open("a") as log:
        log.write(f"{stage.name} {began} {time.time()} {cores_here()}\n")
