"""The region stage measured: speed and memory, published labels, displaced heads.

    python benchmarks/regions.py --subjects 8                   # challenge-sized, simulated
    python benchmarks/regions.py --subjects 8 --rounds 2        # memory at 8 and at 16 subjects
    python benchmarks/regions.py --subjects 33 --coarsening 2   # as in the demo
    python benchmarks/regions.py --published MIRROR   # against the authors' own labels
    python benchmarks/regions.py --displaced 20 --mirror MIRROR
    python benchmarks/regions.py --methods --folder COHORT --subjects 8   # methods side by side

Everything runs in one process, on one thread. Results: regions.md.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from region_fits import displaced_heads, implied_fit

from wmh.atlas.atlases import JHU_WHITE_MATTER_FILE, built_in, jhu
from wmh.atlas.labelling import label_subject
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, mni_white_matter, region_dice
from wmh.atlas.registration import METHODS, Fit, carry_labels, register_atlas
from wmh.atlas.tissue import white_matter
from wmh.cohorts.datasets import published_labels
from wmh.cohorts.sources import find_challenge
from wmh.images import Image, load_image, load_labels
from wmh.phantom.writing import simulate_cohort, simulation_of
from wmh.settings import CohortSettings, RegionSettings
from wmh.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=8, help="8 or more")
    parser.add_argument("--coarsening", type=int, default=1)
    parser.add_argument("--method", choices=["affine", "paper", "deformable"], default="affine")
    parser.add_argument("--rounds", type=int, default=1, help="label all so often: memory is flat")
    parser.add_argument("--folder", type=Path, help="a cohort simulated before")
    parser.add_argument("--methods", action="store_true", help="all methods on the same subjects")
    parser.add_argument("--published", type=Path, help="atlas files with published labels")
    parser.add_argument("--displaced", type=int, default=0, help="displacements of the JHU atlas")
    parser.add_argument("--mirror", type=Path, help="atlas files, for --displaced")
    arguments = parser.parse_args()
    if arguments.published:
        compare_with_published(arguments.published)
    elif arguments.displaced:
        displace(arguments.mirror, arguments.displaced)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = arguments.folder or Path(scratch) / "cohort"
            if not folder.exists():
                simulation = simulation_of(arguments.subjects, arguments.coarsening)
                simulate_cohort(folder, simulation, seed=1, jobs=2)
            if arguments.methods:
                compare_methods(folder, arguments.subjects)
            else:
                label_simulated(arguments, folder)


def label_simulated(arguments: argparse.Namespace, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["WMH_ROOT"] = scratch  # where results go
        columns = "subject", "scanner", "seconds", "CPU seconds", "peak memory, MiB", "region Dice"
        header(columns)
        rows = []
        for number, subject in enumerate(find_challenge(folder) * arguments.rounds):
            wall, processor = time.perf_counter(), time.process_time()
            study = Study(
                name=str(number),
                title="The region stage measured",
                cohort=CohortSettings(source="challenge", folder=folder),
                regions=RegionSettings(method=arguments.method),
                models={"flair": {"task": "lesions", "inputs": "flair", "steps": 1}},  # not trained
            )
            labelled = label_subject(study, subject)["regions"]
            dice = [r["dice"] for r in labelled if r["region"] in REGION_LABELS]
            rows.append(
                (
                    time.perf_counter() - wall,
                    time.process_time() - processor,
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                    np.mean([d for d in dice if d is not None]),
                )
            )
            line(subject.id, subject.scanner, *rows[-1])
        line("mean", "", *np.mean(rows, axis=0))


def compare_methods(folder: Path, count: int) -> None:
    """Every method on the same white matter, segmented once, of subjects spread over a cohort."""
    subjects = find_challenge(folder)
    spread = np.linspace(0, len(subjects) - 1, min(count, len(subjects))).astype(int)
    header(
        (
            *("subject", "scanner"),
            *(f"{method}, {what}" for method in METHODS for what in ("Dice", "CPU seconds")),
        )
    )
    rows = []
    for subject in (subjects[k] for k in spread):
        truth = load_labels(subject.true_regions, ALL_LABELS)
        white = white_matter(load_image(subject.t1), load_image(subject.flair), seed=1)
        rows.append([])
        for method in METHODS:
            processor = time.process_time()
            fit = register_atlas(white, built_in().white_matter, seed=1, method=method)
            dice = agreement(truth, built_in().labels, fit, white)
            rows[-1] += [dice, time.process_time() - processor]
        line(subject.id, subject.scanner, *rows[-1])
    line("mean", "", *np.mean(rows, axis=0))


def compare_with_published(folder: Path) -> None:
    """Our fit and the one that the published labels imply, to the white matter these show."""
    atlas = jhu(folder)
    header(
        ("subject", "region Dice", "overlap", "their overlap", "their region Dice", "CPU seconds")
    )
    rows = []
    for name, path in published_labels(folder).items():
        theirs = load_labels(path, ALL_LABELS)
        white = replace(theirs, data=(theirs.data > 0).astype(np.uint8))
        processor = time.process_time()
        fit = register_atlas(white, atlas.cerebral_white_matter, seed=1)
        processor = time.process_time() - processor
        implied = implied_fit(theirs, atlas, fit)
        rows.append(
            (
                agreement(theirs, atlas.labels, fit, white),
                fit.white_matter_dice,
                implied.white_matter_dice,
                agreement(theirs, atlas.labels, implied, white),
                processor,
            )
        )
        line(name, *rows[-1])
    line("mean", *np.mean(rows, axis=0))


def displace(mirror: Path, count: int) -> None:
    """The JHU atlas as a displaced head: the built-in atlas is carried to it."""
    fit = register_atlas(load_image(mirror / JHU_WHITE_MATTER_FILE), mni_white_matter(), seed=1)
    print(f"Two images of 1 mm, as they are: {fit.seconds:.1f} s\n")
    header(("displacement", "region Dice", "lost", "attempts", "seconds", "CPU seconds", "doubt"))
    undisplaced, rows = None, []
    for seed, (white, truth) in enumerate(displaced_heads(mirror, count)):
        processor = time.process_time()
        fit = register_atlas(white, built_in().white_matter, seed=1)
        processor = time.process_time() - processor
        mask = replace(white, data=(white.data > 0.5).astype(np.uint8))
        truth = replace(truth, data=truth.data * mask.data)
        dice = agreement(truth, built_in().labels, fit, mask)
        undisplaced = dice if undisplaced is None else undisplaced
        rows.append((dice, undisplaced - dice, fit.attempts, fit.seconds, processor))
        line(seed or "none", *rows[-1], fit.doubt or "none")
    line("median of displaced", *np.median(rows[1:], axis=0), "")
    line("worst of displaced", np.min(rows[1:], axis=0)[0], *np.max(rows[1:], axis=0)[1:], "")


def agreement(truth: Image, labels: Image, fit: Fit, white: Image) -> float:
    """Mean Dice of the 34 regions."""
    carried = carry_labels(labels, fit, white).data
    return float(np.nanmean(region_dice(truth.data, carried)[list(REGION_LABELS)]))


def header(columns: Iterable[str]) -> None:
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join("---" for _ in columns) + " |")


def line(*cells: object) -> None:
    shown = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
    print("| " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
