"""Speed of the paper study on a device: the parts of `gpu.sh`, described in gpu.md.

    PYTHONPATH=. python benchmarks/gpu.py network|evaluation|prepare|rehearsal ...

Each part prints its rows of one table as soon as they are measured. Without a GPU it is a dry run:
networks and slices are small, and everything is done once. FULL=1 uses the true sizes there.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from training import DEVICE, GPU, PAPER, Trainee, clock, seconds_of_subjects, slices_of

from wmh.cohorts.scanners import SCANNERS
from wmh.dependencies import notebook_code
from wmh.learning.devices import keep_freed_memory
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.validation import validation_scores
from wmh.study import Study, load_study

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "results" / "gpu"
"""The rehearsal's own project: its study, its people and its results."""

FULL = GPU or "FULL" in os.environ
STUDY, EDGE = PAPER, 256
if not FULL:
    small = load_study("smoke").training.network
    training = PAPER.training.model_copy(update={"network": small, "batch_size": 8})
    STUDY, EDGE = PAPER.model_copy(update={"training": training}), 64
LOOP_SECONDS = 7 if GPU else 0
"""How long something is repeated; it is done once at least."""

STEPS = 200 if GPU else 1
PEOPLE = {
    "training": {"utrecht_philips_3t": 2, "singapore_siemens_3t": 2, "amsterdam_ge_3t": 2},
    "test": {"utrecht_philips_3t": 1, "amsterdam_ge_1p5t": 1, "amsterdam_philips_3t": 1},
}
TRAINED = {
    "flair": "03_train_lesions",
    "regions": "04_train_regions_multitask",
    "multitask": "04_train_regions_multitask",
}


def row(what: str, measured: str, aim: str = "") -> None:
    """Print one row of the table."""
    print(f"| {what} | {measured} | {aim} |", flush=True)


def seconds_of(work: Callable[[int], object]) -> float:
    """Mean seconds of one call after some to warm up, all computed when the clock is read."""
    at_once = 10 if GPU else 1  # between two looks at the clock, which wait for the GPU
    for number in range(3 if GPU else 0):
        work(number)
    began, done = clock(), 0
    while done == 0 or clock() - began < LOOP_SECONDS:
        for _ in range(at_once):
            work(done)
            done += 1
    return (clock() - began) / done


def matrix_rate() -> float:
    """Floating-point operations per second of a large bfloat16 matrix product."""
    edge = 8192 if GPU else 1024
    left, right = (torch.randn(edge, edge, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * edge**3 / seconds_of(lambda _: left @ right)


def network() -> None:
    """Steps of the paper study, task by task, and what its trainings take in all."""
    torch.set_num_threads(1)
    slices, rate = slices_of(STUDY, (EDGE, EDGE)), matrix_rate()
    row("matrix product in bfloat16", f"{rate / 1e12:.2f} TFLOP/s")
    known, minutes = {}, {}
    for name, model in STUDY.models.items():
        if model.task not in known:
            trainee = Trainee(STUDY, model, slices, precision="bfloat16")
            known[model.task] = seconds_of_task(trainee, rate)
        step, validation = known[model.task]
        validations = model.steps / STUDY.training.validate_every
        minutes[name] = (model.steps * step + validations * validation) / 60
    six = sum(minutes.values()) - minutes["flair_t1_dropout"]
    row("the six models of the paper, once each", f"{six:.0f} minutes", "20 on one H100")


def seconds_of_task(trainee: Trainee, rate: float) -> tuple[float, float]:
    """Seconds of a step and of a validation; what a step is made of, as rows."""
    task, training, slices = trainee.model.task, trainee.study.training, trainee.slices
    batch, configuration = trainee.draw(0), CONFIGURATIONS[trainee.model.inputs]
    with FlopCounterMode(display=False) as counter:
        trainee.learn(batch)
    step = seconds_of(trainee.step)
    undrawn = seconds_of(lambda _: (trainee.learn(batch), trainee.descend()))
    learned = seconds_of(lambda _: trainee.learn(batch))
    epoch = 20 * sum(s.shape[2] for s in SCANNERS.values() if s.in_training)
    row(f"{task}: slices of {EDGE} x {EDGE} a second", f"{training.batch_size / step:.1f}")
    row(f"{task}: of the matrix product's rate", f"{counter.get_total_flops() / step / rate:.1%}")
    row(f"{task}: an epoch of 60 people", f"{epoch * step / training.batch_size:.1f} s")
    row(f"{task}: data and augmentation, of a step", f"{1 - undrawn / step:.1%}", "5 %")
    row(f"{task}: optimiser, of a step", f"{(undrawn - learned) / step:.1%}")
    validation = seconds_of(
        lambda _: validation_scores(trainee.network, slices, configuration, training)
    )
    return step, validation / len(slices) * epoch / training.folds


def evaluation() -> None:
    """People a second, from their files to those of the answer."""
    for task, inputs in (("lesions", "flair_t1"), ("multitask", "interchangeable")):
        seconds = statistics.median(seconds_of_subjects(STUDY, task, inputs, 5 if GPU else 1))
        row(f"{task} from {inputs}: people predicted a second", f"{1 / seconds:.2f}")


def rehearsed() -> Study:
    """Study `paper` with few simulated people at half its resolution, few steps and three models.

    The six learn and validate in its first fold; their regions are known.
    """
    settings = yaml.safe_load((ROOT / "studies" / "paper.yaml").read_text())
    simulation = PEOPLE | {"in_plane_coarsening": 2}
    settings["cohort"] = {"source": "simulated", "folder": "people", "simulation": simulation}
    settings["regions"] = {"atlas": "known"}
    settings["training"] |= {
        "repeats": 1,
        "validate_every": -(-STEPS // 2),
        "batch_size": STUDY.training.batch_size,
        "network": STUDY.training.network.model_dump(mode="json"),
    }
    settings["models"] = {name: settings["models"][name] | {"steps": STEPS} for name in TRAINED}
    settings["compute"]["device"] = DEVICE.type
    path = HERE / "studies" / "rehearsal.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    os.environ["WMH_ROOT"] = str(HERE)
    return load_study("rehearsal")


def prepare() -> None:
    """Simulate the rehearsal's people and put down who they are and where their regions lie."""
    study = rehearsed()
    if study.table("cohort").exists() and study.table("regions").exists():
        return
    from wmh.atlas.labelling import label_cohort  # these need SimpleITK, and the rest does not
    from wmh.cohorts.cohort import read_cohort
    from wmh.cohorts.gather import gather_cohort
    from wmh.phantom.writing import simulate_study

    simulate_study(study)
    gather_cohort(study)
    label_cohort(study, read_cohort(study.table("cohort")))


def rehearsal() -> None:
    """Notebooks 3 to 5 on the device: their code as it stands, each in a process of its own."""
    prepare()
    study = rehearsed()
    for made in ("models", "predictions"):  # by a run before
        shutil.rmtree(study.results / made, ignore_errors=True)
    for model, notebook in TRAINED.items():
        seconds = run(study, notebook, model)
        history = pd.read_csv(study.model_folder(model) / "history.csv")
        looped = STEPS * study.training.batch_size / history["seconds"].sum()
        loop = f"{looped:.1f} slices a second in its loop"
        row(f"notebook {notebook} {model}, {STEPS} steps", f"{seconds:.0f} s, {loop}")
    seconds = run(study, "05_evaluation")
    predictions = len(list((study.results / "predictions").rglob("*.txt")))
    each = f"{predictions / seconds:.2f} predictions a second"
    row(f"notebook 05_evaluation, {predictions} predictions", f"{seconds:.0f} s, {each}")


def run(study: Study, notebook: str, model: str = "") -> float:
    """Run a notebook's code as a stage would, and return its seconds; ends here where it fails."""
    code = notebook_code(ROOT / "notebooks" / f"{notebook}.ipynb")
    for name, value in {"study": study.name, "model": model}.items():
        code = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', code, count=1, flags=re.M)
    threads = str(study.compute.threads)
    stage = {"OMP_NUM_THREADS": threads, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "WMH_HEADLESS": "1"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | stage, stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(done.returncode)
    return time.perf_counter() - began


if __name__ == "__main__":
    keep_freed_memory()
    parts = {part.__name__: part for part in (network, evaluation, prepare, rehearsal)}
    for name in sys.argv[1:]:
        parts[name]()
