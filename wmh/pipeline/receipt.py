"""The receipt of a study: the files, the code and the machine that its results come from."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from wmh.cohorts.cohort import PATHS, read_cohort
from wmh.files import complete, sha256_of
from wmh.pipeline.stages import files_of, stages_of
from wmh.provenance import all_versions, commit_here, hardware_here
from wmh.study import Study, project_root


def write_receipt(study: Study) -> dict:
    """Write ``results/STUDY/receipt.json`` and return its content."""
    records = [files_of(study, stage).record for stage in stages_of(study)]
    receipt = {
        "study": study.name,
        "title": study.title,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **commit_here(),
        "python": platform.python_version(),
        "hardware": hardware_here(),
        "seeds": {"study": study.seed, "others": "first 4 bytes of sha256(study seed/purpose)"},
        "settings": study.model_dump(mode="json"),
        "stages": [json.loads(path.read_text()) for path in records if path.exists()],
        "inputs": {name: sha256_of(path) for name, path in _inputs(study)},
        "packages": all_versions(),
    }
    with complete(study.results / "receipt.json") as part:
        part.write_text(json.dumps(receipt, indent=2) + "\n")
    return receipt


def _inputs(study: Study) -> Iterator[tuple[str, Path]]:
    """All files that the results come from: settings, code, versions, images, atlas, tables."""
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
    if study.table("cohort").exists():
        people = read_cohort(study.table("cohort"))
        own += [path for person in people for name in PATHS if (path := getattr(person, name))]
    for path in own:
        if path.is_file():
            yield (str(path.relative_to(root) if path.is_relative_to(root) else path), path)
