"""Memory of a training as the cohort grows: slices kept in memory, and slices kept on disk.

    PYTHONPATH=. python benchmarks/memory.py

Batches of the paper study are drawn and augmented as in training, from 30 to 3,000 subjects of the
challenge's size, each cohort in its own process. On disk, all subjects' names point to eight files,
to save space.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from wmh.learning.batches import draw_batch
from wmh.learning.devices import keep_freed_memory
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.slices import Files, Slices, Stored, StoredSubject
from wmh.study import load_study

COHORTS = {"disk": (30, 300, 3000), "device": (30,)}
SLICES_EACH, SIZE = 60, (256, 256)
FILES, BATCHES = 8, 40


def subject(number: int) -> dict[str, torch.Tensor]:
    """A subject's slices with some lesion in each, as a file holds them."""
    generator = torch.Generator().manual_seed(number)
    images = torch.rand(SLICES_EACH, 2, *SIZE, generator=generator).half()
    lesions = torch.zeros(SLICES_EACH, *SIZE, dtype=torch.uint8)
    lesions[:, 50:60, 50:70] = 1
    return {"images": images, "lesions": lesions}


def on_disk(folder: Path, count: int) -> tuple[Stored, Stored]:
    """Images and lesions of so many subjects, as :mod:`wmh.learning.prepare` leaves them."""
    depth_mm, labelled = torch.zeros(SLICES_EACH), {"lesions": torch.full((SLICES_EACH,), 200)}
    known = []
    for number in range(count):
        path = folder / f"{number}.pt"
        if number < FILES:
            torch.save(subject(number), path)
        else:
            path.hardlink_to(folder / f"{number % FILES}.pt")
        known.append(StoredSubject((path,), (path.name,), SIZE, depth_mm, labelled))
    files = Files(known)
    return Stored(files, "images"), Stored(files, "lesions")


def in_memory(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and lesions of so many subjects as tensors."""
    one = subject(0)
    images, lesions = (one[name].repeat(count, *[1] * (one[name].ndim - 1)) for name in one)
    return images, lesions


def measure(storage: str, count: int) -> None:
    """Print the largest memory of this process while it draws batches, and a batch's time."""
    keep_freed_memory()
    training = load_study("paper").training
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        stacks = on_disk(Path(folder), count) if storage == "disk" else in_memory(count)
        depth_mm = torch.arange(SLICES_EACH).repeat(count) * 3.0
        owner = torch.repeat_interleave(torch.arange(count), SLICES_EACH)
        ids = tuple(str(number) for number in range(count))
        slices, held, seconds = Slices(*stacks, None, depth_mm, owner, ids), [], []
        for number in range(BATCHES):
            since, generator = time.process_time(), torch.Generator().manual_seed(number)
            draw_batch(slices, CONFIGURATIONS["flair"], "lesions", training, generator)
            seconds.append(time.process_time() - since)
            held.append(psutil.Process().memory_info().rss - before)
    size = sum(stack.nbytes for stack in stacks) / 1e9
    print(
        f"| {storage} | {count:,} | {size:.1f} | {max(held) / 1e9:.2f} "
        f"| {1e3 * statistics.median(seconds):.0f} |",
        flush=True,
    )


def main() -> None:
    """Measure every cohort in a process of its own."""
    print("| slices.storage | subjects | GB of slices | GB of memory for them | ms per batch |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for storage, counts in COHORTS.items():
        for count in counts:
            subprocess.run([sys.executable, __file__, storage, str(count)], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        main()
