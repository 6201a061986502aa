"""Seconds and peak memory a subject of the region stage, on simulated subjects.

    python benchmarks/regions.py --subjects 8                   # challenge-sized
    python benchmarks/regions.py --subjects 33 --coarsening 2   # as in the demo
    python benchmarks/regions.py --method deformable

Subjects are labelled one after another in one process, on one thread. Results: regions.md.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from wmh.atlas.labelling import Task, label_subject
from wmh.cohorts.cohort import find_challenge
from wmh.cohorts.phantom import simulate_cohort, simulation_of
from wmh.study import RegionSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=8, help="8 or more")
    parser.add_argument("--coarsening", type=int, default=1)
    parser.add_argument("--method", choices=["affine", "paper", "deformable"], default="affine")
    parser.add_argument("--folder", type=Path, help="a cohort simulated before")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "cohort"
        if not folder.exists():
            simulation = simulation_of(arguments.subjects, arguments.coarsening)
            simulate_cohort(folder, simulation, seed=1, jobs=2)
        measure(folder, Path(scratch), RegionSettings(method=arguments.method))


def measure(folder: Path, scratch: Path, settings: RegionSettings) -> None:
    print("| subject | scanner | seconds | CPU seconds | peak memory, MiB | Dice of regions |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    rows = []
    for subject in find_challenge(folder):
        wall, processor = time.perf_counter(), time.process_time()
        result = label_subject(
            Task(
                id=subject.id,
                flair=subject.flair,
                t1=subject.t1,
                true_regions=subject.true_regions,
                published=None,
                settings=settings,
                atlas_folder=folder,
                seed=1,
                output=scratch / f"{subject.id}.nii.gz",
            )
        )
        dice = [r["dice"] for r in result["regions"] if r["region"] <= 34 and r["dice"] is not None]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        row = time.perf_counter() - wall, time.process_time() - processor, peak, np.mean(dice)
        rows.append(row)
        print(
            "| {} | {} | {:.1f} | {:.1f} | {:.0f} | {:.3f} |".format(
                subject.id, subject.scanner, *row
            ),
            flush=True,
        )
    print("| mean | | {:.2f} | {:.2f} | {:.0f} | {:.3f} |".format(*np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
