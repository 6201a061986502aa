"""The receipt of a study: from which files, by which code, on which machine its results came."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from wmh.pipeline.stages import files_of, stages_of
from wmh.provenance import all_versions, commit_here, hardware_here
from wmh.study import Study, project_root

IMAGES = ("flair", "t1", "lesions", "true_regions")
"""Columns of the cohort table that name a subject's files."""


def write_receipt(study: Study) -> dict:
    """Write ``results/STUDY/receipt.json`` and return what it says."""
    receipt = {
        "study": study.name,
        "title": study.title,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **commit_here(),
        "python": platform.python_version(),
        "hardware": hardware_here(),
        "seeds": {"study": study.seed, "others": "first 4 bytes of sha256(study seed/purpose)"},
        "settings": study.model_dump(mode="json"),
        "stages": stage_records(study),
        "inputs": {name: sha256_of(path) for name, path in _inputs(study)},
        "packages": all_versions(),
    }
    path = study.results / "receipt.json"
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(receipt, indent=2) + "\n")
    temporary.replace(path)
    return receipt


def stage_records(study: Study) -> list[dict]:
    """The records of all stages that have run, in the order of the story."""
    paths = [files_of(study, stage).record for stage in stages_of(study)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inputs(study: Study) -> Iterator[tuple[str, Path]]:
    """Everything the results come from: settings, notebooks, the lock, images, atlas, tables."""
    root = project_root()
    own = [root / "studies" / f"{study.name}.yaml", root / "requirements.lock", root / "Snakefile"]
    own += sorted((root / "notebooks").glob("*.ipynb"))
    own += sorted(path for path in (root / "wmh").rglob("*") if path.suffix in (".py", ".csv"))
    if study.participants:
        own.append(root / study.participants.table)
    if study.cohort_folder.is_file():  # a table of images
        own.append(study.cohort_folder)
    if study.regions.atlas != "built-in":
        folder = root / study.regions.atlas_folder
        own += sorted(path for path in folder.rglob("*") if path.is_file())
    for path in [path for path in own if path.exists()] + _images(study):
        yield (str(path.relative_to(root) if path.is_relative_to(root) else path), path)


def _images(study: Study) -> list[Path]:
    """Every subject's files, as the cohort table names them."""
    table = study.results / "cohort.csv"
    if not table.exists():
        return []
    with table.open(newline="") as file:
        named = [
            row[column] for row in csv.DictReader(file) for column in IMAGES if row.get(column)
        ]
    return [path for path in (project_root() / name for name in named) if path.is_file()]
