"""Pack the general model into wmh/weights/, from the study `general`, which goes on from `heads`.

    ./run_all.sh heads && ./run_all.sh general
    python benchmarks/real_scans.py REAL --leave-out --table benchmarks/real_scans.csv
    python benchmarks/pack_general.py

The scores that the file tells are those of benchmarks/real_scans.csv: of trainings without the data
set that a scan belongs to.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from wmh.learning.general import pack
from wmh.predict.training_distribution import training_scans
from wmh.study import load_study

TRAINED_ON = [
    {
        "Data": "Simulated heads, from label maps of twenty people (Billot et al. 2023)",
        "People": 140 + 44,
        "Licence": "Apache 2.0",
    },
    {"Data": "open_ms_data (Lesjak et al. 2017)", "People": 2, "Licence": "CC BY"},
    {"Data": "Sim-Vent-WMH-Seg", "People": 5, "Licence": "MIT"},
]


def main() -> None:
    general = load_study("general")
    measured = Path(__file__).with_name("real_scans.csv")
    scores = scores_of(pd.read_csv(measured)) if measured.is_file() else []
    checkpoints = [general.model_folder(name) / "checkpoint.pt" for name in general.models]
    path = pack(checkpoints, general.evaluation, TRAINED_ON, scores, training_scans(general))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


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
