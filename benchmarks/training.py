"""Training and inference: seconds of a step and of a subject; the paper study in gpu.py.

    PYTHONPATH=. python benchmarks/training.py [steps] [variants] [inference]

Runs with or without a GPU. Heads are blobs and weights random: nothing here depends on what they
show. On the CPU one thread is measured in processor time, two on the clock. What is compared takes
turns, so that a slow spell of the machine hits all alike.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn

from wmh.images import Image, load_image, save_image
from wmh.learning.batches import Batch, draw_batch
from wmh.learning.devices import autocast, keep_freed_memory
from wmh.learning.inference import predict
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.losses import loss_of
from wmh.learning.models import Model
from wmh.learning.networks.build import build_network, to_device
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.learning.optimiser import Muon, build_optimiser
from wmh.learning.slices import Slices
from wmh.settings import ModelSettings
from wmh.study import Study, load_study

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
DEMO, PAPER = load_study("demo"), load_study("paper")
SIZES = {"demo": (88, 112), "paper": (256, 256)}
"""Of a slice in the two studies: a usual head's window, and the largest."""

ROUNDS = 9
SUBJECTS, SLICES_EACH = 4, 48


def slices_of(study: Study, size: tuple[int, int]) -> Slices:
    """Slices of a few people with noise, a lesion and a region each."""
    count = SUBJECTS * SLICES_EACH
    images = torch.rand(count, 2, *size, generator=torch.Generator().manual_seed(0))
    lesions = torch.zeros(count, *size, dtype=torch.uint8)
    lesions[:, 50:60, 50:70] = 1
    subject = torch.arange(count) // SLICES_EACH
    depth_mm = torch.arange(SLICES_EACH).flip(0).repeat(SUBJECTS) * 3.0
    ids = tuple(str(number) for number in range(SUBJECTS))
    images = images.to(getattr(torch, study.slices.precision))
    return Slices(images, lesions, lesions * 5, depth_mm, subject, ids).to(DEVICE)


@dataclass
class Trainee:
    """A network under training, as :func:`wmh.learning.training.train` trains it."""

    study: Study
    model: ModelSettings
    slices: Slices
    precision: str = "auto"
    channels_last: bool = True
    compiled: bool = False

    @cached_property
    def network(self) -> nn.Module:
        torch.manual_seed(0)
        channels = CONFIGURATIONS[self.model.inputs].channels
        network = build_network(self.study.training.network, channels, self.model.task).train()
        device = self.slices.device
        return to_device(network, device) if self.channels_last else network.to(device)

    @cached_property
    def forward(self) -> Callable:
        return torch.compile(self.network) if self.compiled else self.network

    @cached_property
    def optimiser(self) -> Muon:
        return build_optimiser(self.network, nn.ParameterDict(), self.study.training)

    def draw(self, number: int) -> Batch:
        """The batch of a step, augmented."""
        generator = torch.Generator().manual_seed(number)
        configuration = CONFIGURATIONS[self.model.inputs]
        task, training = self.model.task, self.study.training
        return draw_batch(self.slices, configuration, task, training, generator)

    def learn(self, batch: Batch) -> None:
        """Forward, loss, backward and clipping."""
        with autocast(self.slices.device, self.precision, 2):
            logits = batch.logits(self.forward)
        loss_of(logits, batch.labels, self.study.training.loss).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)

    def descend(self) -> None:
        """The optimiser's part."""
        self.optimiser.step()
        self.optimiser.zero_grad()

    def step(self, number: int) -> None:
        """One whole step."""
        self.learn(self.draw(number))
        self.descend()


def clock() -> float:
    """Seconds: of the processor for one thread, on the wall for two and, all done, for a GPU."""
    if GPU:
        torch.cuda.synchronize()
    return time.process_time() if not GPU and torch.get_num_threads() == 1 else time.perf_counter()


def laps(trainee: Trainee, number: int) -> list[float]:
    """Seconds of a step's three parts: data and augmentation, gradients, optimiser."""
    began = clock()
    batch = trainee.draw(number)
    drawn = clock()
    trainee.learn(batch)
    learned = clock()
    trainee.descend()
    return [drawn - began, learned - drawn, clock() - learned]


def parts(name: str, trainee: Trainee) -> None:
    """Print how a step's time is spent, and slices per second."""
    for number in range(2):
        trainee.step(number)
    table = [laps(trainee, number) for number in range(ROUNDS)]
    data, gradients, optimiser = (statistics.median(part) for part in zip(*table, strict=True))
    whole = data + gradients + optimiser
    print(
        f"| {name} | {1e3 * data:.1f} | {1e3 * gradients:.0f} | {1e3 * optimiser:.1f} "
        f"| {data / whole:.1%} | {trainee.study.training.batch_size / whole:.0f} |",
        flush=True,
    )


def variants() -> None:
    """Print what each way to compute takes, over what training does by default."""
    study = PAPER if GPU else DEMO
    usual = Trainee(study, study.models["flair"], slices_of(study, SIZES[study.name]))
    others = {
        "float32": replace(usual, precision="float32"),
        "bfloat16": replace(usual, precision="bfloat16"),
        "not channels-last": replace(usual, channels_last=False),
        "torch.compile": replace(usual, compiled=True),
    }
    before = time.perf_counter(), sum(os.times()[:4])  # with the C++ compiler's
    for number in range(2):
        others["torch.compile"].step(number)
    after = time.perf_counter(), sum(os.times()[:4])
    wall, busy = (b - a for a, b in zip(before, after, strict=True))
    for trainee in (usual, *others.values()):
        trainee.step(0)
    table = {name: [] for name in others}
    for number in range(ROUNDS):
        base = sum(laps(usual, number))
        for name, trainee in others.items():
            table[name].append(sum(laps(trainee, number)) / base)
    print("| variant | time over the default's |\n| --- | ---: |")
    for name, ratios in table.items():
        print(f"| {name} | {statistics.median(ratios):.3f} |")
    print(f"\nCompiling: {wall:.0f} s on the clock, {busy:.0f} s of the processor.", flush=True)


def inference() -> None:
    """Print seconds for a 240 x 240 x 48 subject, reading and writing included."""
    print("| study | predicts | inputs | s per subject |\n| --- | --- | --- | ---: |", flush=True)
    for study in (PAPER, DEMO):
        for task, inputs in (("lesions", "flair_t1"), ("multitask", "interchangeable")):
            median = statistics.median(seconds_of_subjects(study, task, inputs, 3))
            print(f"| {study.name} | {task} | {inputs} | {median:.1f} |", flush=True)


def seconds_of_subjects(study: Study, task: str, inputs: str, count: int) -> list[float]:
    """Seconds of each of so many predictions of a 240 x 240 x 48 subject, FLAIR and T1 given."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (240, 240, 48)), indexing="ij")
    head = sum((axis / r) ** 2 for axis, r in zip(axes, (0.75, 0.9, 1.0), strict=True)) < 1
    noise = np.random.default_rng(0).uniform(80, 120, head.shape)
    image = Image((head * noise).astype(np.float32), np.diag([0.958, 0.958, 3.0, 1.0]))
    network, size_mm = study.training.network, study.slices.voxel_size_mm
    configuration = CONFIGURATIONS[inputs]
    weights = to_device(build_network(network, configuration.channels, task), DEVICE).eval()
    model = Model("m", task, configuration, (weights,), network, size_mm, 0.0, study.name, 0)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.nii.gz" for name in ("FLAIR", "T1")}
        for path in files.values():
            save_image(path, image.data, image)
        return [one_subject(model, files, Path(folder)) for _ in range(count)]


def one_subject(model: Model, files: dict[str, Path], folder: Path) -> float:
    """Seconds from a subject's files to its answers' files."""
    before = clock()
    answer = predict(model, {name: load_image(path) for name, path in files.items()})
    save_image(folder / "lesions.nii.gz", answer.lesions(0.5), answer.like)
    save_image(folder / "probability.nii.gz", answer.probability.round(3), answer.like)
    if "regions" in STRUCTURES[model.task]:
        save_image(folder / "regions.nii.gz", answer.regions, answer.like)
    return clock() - before


def steps() -> None:
    """Print how a step of the demo study is spent and, on a GPU, one of the paper study."""
    print("| step | data ms | gradients ms | optimiser ms | share of data | slices/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    studies = [DEMO, PAPER] if GPU else [DEMO]
    for study in studies:
        slices = slices_of(study, SIZES[study.name])
        for threads in (1,) if GPU else (1, 2):
            torch.set_num_threads(threads)
            for name in ("flair", "multitask"):
                trainee = Trainee(study, study.models[name], slices)
                parts(f"{study.name}, {name}, threads: {threads}", trainee)


def main() -> None:
    """Measure and print the named parts, or all of them."""
    keep_freed_memory()
    machine = torch.cuda.get_device_name() if GPU else f"{psutil.cpu_count()} cores"
    print(f"{platform.machine()}, {machine}, Python {platform.python_version()}", end=", ")
    print(f"torch {torch.__version__}")
    known = {part.__name__: part for part in (steps, variants, inference)}
    for name in sys.argv[1:] or known:
        print()
        torch.set_num_threads(1)
        known[name]()


if __name__ == "__main__":
    main()
