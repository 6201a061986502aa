"""Stands in for ``wmh.pipeline.notebook`` where only the order of stages is tested.

Writes what a stage would leave and logs when it began, when it ended and what cores it was given;
trainings and the atlas take a second. The stage named by ``FAILING_STAGE`` fails instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from PIL import Image

from wmh.cores import cores_here
from wmh.pipeline.stages import Stage, files_of
from wmh.results import FIGURES
from wmh.study import load_study

TABLES = {
    "01_data_preparation": ["cohort.csv"],
    "02_atlas_registration": ["regions.csv", "region_volumes.csv"],
    "03_train_lesions": ["models/{training}/checkpoint.pt"],
    "04_train_regions_multitask": ["models/{training}/checkpoint.pt"],
    "05_evaluation": ["metrics.csv", "burden.csv"],
    "06_statistics": ["means.csv", "comparisons.csv", "claims.csv", "volumes.csv"],
    "07_localization": [
        *("agreement.csv", "agreement_summary.csv", "error_parts.csv"),
        *("cohort_burden.csv", "groups.csv", "group_choices.csv"),
    ],
    "08_figures": [],
}


def draw(folder: Path) -> None:
    """Every figure as one black pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        Image.new("L", (1, 1)).save(folder / f"{name}.png")
        Image.new("L", (1, 1)).save(folder / f"{name}.pdf")
        (folder / f"{name}.txt").write_text("Nothing.")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study")
    parser.add_argument("notebook")
    parser.add_argument("--model")
    parser.add_argument("--repeat", type=int, default=1)
    given, _ = parser.parse_known_args()
    study = load_study(given.study)
    stage = Stage(given.notebook, given.model, given.repeat)
    began = time.time()
    time.sleep(1.0 if given.model or stage.notebook == "02_atlas_registration" else 0.0)
    files = files_of(study, stage)
    if stage.name == os.environ.get("FAILING_STAGE"):
        files.started.parent.mkdir(parents=True, exist_ok=True)
        files.started.write_text('{"error": "ValueError: no two subjects"}')
        sys.exit(1)
    training = study.of_repeat(given.repeat).run_name(given.model)
    tables = [study.results / name.format(training=training) for name in TABLES[stage.notebook]]
    for path in (*tables, files.executed, files.page):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n")
    if stage.notebook == "08_figures":
        draw(study.figures)
    files.record.parent.mkdir(parents=True, exist_ok=True)
    cost = '"seconds": 0.3, "peak_memory_mb": 1, "commit": null, "dirty": null'
    files.record.write_text(f'{{"stage": "{stage.name}", {cost}}}')
    with (study.results / "order.txt").open("a") as log:
        log.write(f"{stage.name} {began} {time.time()} {cores_here()}\n")


if __name__ == "__main__":
    main()
