"""Pack the general model into wmh/weights/, from the study `general`, which starts from `heads`.

    ./run_all.sh heads && ./run_all.sh general
    python benchmarks/real_scans.py REAL --leave-out --table benchmarks/real_scans.csv
    python benchmarks/pack_general.py

The scores in the file come from benchmarks/real_scans.csv: each scan is predicted by a training
without the scan's data set.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from wmh.files import complete, sha256_of
from wmh.learning import general
from wmh.learning.models import CheckpointError, model_of, read_checkpoint
from wmh.predict.training_distribution import training_scans
from wmh.settings import Evaluation
from wmh.study import load_study

SHARED = ("study", "inputs", "network", "voxel_size_mm", "slice_thickness_mm")
"""Facts that all checkpoints of one task have in common."""

CODE = ("step", "versions", "commit", "dirty")
"""Facts that are told of the first checkpoint of each task."""

TRAINED_ON = [
    {
        "Data": "Simulated heads, from label maps of twenty people (Billot et al. 2023)",
        "People": 140 + 44,
        "Licence": "Apache 2.0",
    },
    {"Data": "open_ms_data (Lesjak et al. 2018)", "People": 2, "Licence": "CC BY"},
    {"Data": "Sim-Vent-WMH-Seg", "People": 5, "Licence": "MIT"},
]


def main() -> None:
    study = load_study("general")
    measured = Path(__file__).with_name("real_scans.csv")
    scores = scores_of(pd.read_csv(measured)) if measured.is_file() else []
    checkpoints = [study.model_folder(name) / "checkpoint.pt" for name in study.models]
    path = pack(checkpoints, study.evaluation, TRAINED_ON, scores, training_scans(study))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def pack(
    checkpoints: Sequence[Path],
    evaluation: Evaluation,
    trained_on: list[dict[str, object]],
    scores: list[dict[str, object]],
    scans: pd.DataFrame,
) -> Path:
    """Write the general model's file from checkpoints; those of one task answer by their mean.

    Beside it goes ``general.sha256``. The same content gives the same bytes. Of ``evaluation``
    threshold and mirroring are kept. Raises :class:`CheckpointError` when checkpoints of one task
    differ in more than their weights.
    """
    tasks: dict[str, dict] = {}
    for path in checkpoints:
        content = read_checkpoint(path)
        facts = {fact: content[fact] for fact in ("task", *SHARED, *CODE)}
        packed = tasks.setdefault(content["task"], {"model": "general", **facts, "weights": []})
        if differing := [fact for fact in SHARED if content[fact] != packed[fact]]:
            raise CheckpointError(
                f"{path}: other {', '.join(differing)} than the first checkpoint for "
                f"{content['task']}. Pack models that were trained alike"
            )
        (network,) = model_of(content, path).networks
        packed["weights"].append({name: t.half() for name, t in network.state_dict().items()})
    whole = io.BytesIO()
    torch.save(
        {
            "models": list(tasks.values()),
            "evaluation": evaluation.model_dump(include={"threshold", "mirroring"}),
            "trained_on": trained_on,
            "scores": scores,
            "training_scans": scans.to_dict("list"),
        },
        whole,
    )
    with complete(general.WEIGHTS) as part:
        part.write_bytes(gzip.compress(whole.getvalue(), mtime=0))
    general.WEIGHTS.with_name("general.sha256").write_text(
        f"{sha256_of(general.WEIGHTS)}  {general.WEIGHTS.name}\n"
    )
    return general.WEIGHTS


def scores_of(table: pd.DataFrame) -> list[dict[str, object]]:
    """A row for each way a scan may be given, from the table of real_scans.py."""
    return [
        {
            "Given": given,
            "Scans": len(rows),
            "Dice": round(float(rows["dice"].mean()), 2),
            "Lesion F1": round(float(rows["f1"].mean()), 2),
            "Found / true volume (median)": round(
                float((rows["found_ml"] / rows["true_ml"]).median()), 2
            ),
        }
        for given, rows in table.dropna(subset="dice").groupby("given", sort=False)
    ]


if __name__ == "__main__":
    main()
