"""Batch preparation: slices per second at 128 x 128 with two channels, beside other packages.

    PYTHONPATH=. python benchmarks/augmentation.py

Our batches are drawn and augmented in one part for each person in it, as in training. The other
packages augment slices of the same size one by one, as their loaders' workers do; only nnU-Net's
loader also reads files. Packages that are not installed are left out. Install them in a separate
environment together with this project's packages, so that all use the same torch. Packages are
measured in turns, so that a slow phase of the machine affects all of them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import importlib.metadata
import io
import math
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from wmh.learning.augment import apply, draw
from wmh.learning.devices import keep_freed_memory
from wmh.learning.slices import Slices
from wmh.settings import Training

EDGE, SLICES, BATCH = 128, 256, 32
ROUNDS, SECONDS = 5, 0.6
STUDY = Training().augmentation.probability
PEOPLE = Training().people_a_batch

Prepare = Callable[[], int]
"""Prepares some slices and says how many."""


def blobs() -> Slices:
    """Smooth heads with a bright lesion; nothing here depends on what they show."""
    generator = np.random.default_rng(0)
    axis = np.linspace(-1, 1, EDGE, dtype=np.float32)
    head = (axis[:, None] ** 2 + axis**2 < 0.8).astype(np.float32)
    images = head * generator.uniform(0.8, 1.2, (SLICES, 2, EDGE, EDGE)).astype(np.float32)
    lesions = np.zeros((SLICES, EDGE, EDGE), np.uint8)
    lesions[:, 50:60, 50:70] = 1
    return Slices(
        torch.from_numpy(images),
        torch.from_numpy(lesions),
        None,
        torch.zeros(SLICES),
        torch.zeros(SLICES, dtype=torch.long),
        ("a",),
    )


def ours(slices: Slices, probability: float) -> Prepare:
    """Our batches, drawn and augmented part by part."""
    augmentation = Training().augmentation.model_copy(update={"probability": probability})
    generator = torch.Generator().manual_seed(0)

    def prepare() -> int:
        for _ in range(PEOPLE):
            chosen = torch.randint(len(slices), (BATCH // PEOPLE,), generator=generator)
            images, labels = slices.images[chosen].float(), slices.labels(("lesions",), chosen)
            apply(images, labels, draw(tuple(images.shape), augmentation, generator))
        return BATCH

    return prepare


def one_by_one(slices: Slices, augment: Callable[[int], object]) -> Prepare:
    """Slices of a peer, drawn at random and augmented one by one."""
    generator = np.random.default_rng(0)

    def prepare() -> int:
        augment(int(generator.integers(len(slices))))
        return 1

    return prepare


def yucca(slices: Slices, always: bool) -> Prepare:
    """Its default training transforms, or every one of them always."""
    from yucca.modules.data.augmentation.YuccaAugmentationComposer import YuccaAugmentationComposer

    chances = {
        name: 1.0
        for name in vars(YuccaAugmentationComposer((EDGE, EDGE), is_2D=True))
        if "_p_per_" in name
    }
    transform = YuccaAugmentationComposer(
        (EDGE, EDGE), is_2D=True, parameter_dict=chances if always else {}
    ).train_transforms
    images, labels = slices.images.numpy(), slices.lesions.numpy()[:, None].astype(np.float32)
    return one_by_one(
        slices, lambda n: transform({"image": images[n].copy(), "label": labels[n].copy()})
    )


def monai(slices: Slices, probability: float) -> Prepare:
    """A chain of its transforms comparable to ours."""
    from monai import transforms as t

    both, image, p = ["image", "label"], ["image"], probability
    chain = t.Compose(
        [
            t.RandGaussianSmoothd(image, sigma_x=(0.3, 0.8), sigma_y=(0.3, 0.8), prob=p),
            t.RandSimulateLowResolutiond(
                image, prob=p, upsample_mode="bilinear", zoom_range=(0.55, 1.0)
            ),
            t.RandGibbsNoised(image, prob=p, alpha=(0.0, 0.4)),
            t.RandAdjustContrastd(image, prob=p, gamma=(0.75, 1.35)),
            t.RandScaleIntensityFixedMeand(image, factors=0.25, prob=p),
            t.RandScaleIntensityd(image, factors=0.07, prob=p),
            t.RandBiasFieldd(image, prob=p, coeff_range=(0.0, 0.1)),
            t.RandGaussianNoised(image, prob=p, std=0.06),
            t.RandFlipd(both, prob=0.5, spatial_axis=0),
            t.Rand2DElasticd(
                both,
                spacing=(25, 25),
                magnitude_range=(0.0, 2.0),
                prob=p,
                rotate_range=math.radians(12),
                scale_range=0.15,
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            ),
        ]
    )
    chain.set_random_state(0)
    return one_by_one(
        slices,
        lambda n: chain({"image": slices.images[n].clone(), "label": slices.lesions[n][None]}),
    )


def torchio(slices: Slices, probability: float) -> Prepare:
    """A chain of its transforms comparable to ours."""
    import torchio as tio

    p = probability
    chain = tio.Compose(
        [
            tio.RandomBlur((0.3, 0.8), p=p),
            tio.RandomAnisotropy(axes=(0, 1), downsampling=(1, 1.8), p=p),
            tio.RandomMotion(degrees=0, translation=1, num_transforms=2, p=p),
            tio.RandomGamma(0.3, p=p),
            tio.RandomBiasField(0.1, p=p),
            tio.RandomNoise(std=(0, 0.06), p=p),
            tio.RandomFlip(axes=(0,), p=p),
            tio.RandomElasticDeformation((7, 7, 5), (2, 2, 0), p=p),
            tio.RandomAffine((0.85, 1.2), (0, 0, 0, 0, -12, 12), p=p),
        ]
    )
    subjects = [
        tio.Subject(
            image=tio.ScalarImage(tensor=image[..., None]),
            label=tio.LabelMap(tensor=label[None, ..., None]),
        )
        for image, label in zip(slices.images, slices.lesions, strict=True)
    ]
    return one_by_one(slices, lambda n: chain(subjects[n]))


def nnunet(folder: Path) -> Prepare:
    """Its default 2-D loader, reading its own compressed files, with its training transforms."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    size, turn = (EDGE, EDGE), (-math.pi, math.pi)
    generator = np.random.default_rng(0)
    lesions = np.zeros((1, 32, 240, 240), np.int8)
    lesions[:, 10:14, 100:110, 90:110] = 1
    for number in range(8):
        image = generator.normal(size=(2, 32, 240, 240)).astype(np.float32)
        nnUNetDatasetBlosc2.save_case(
            image, lesions, {"class_locations": {1: np.argwhere(lesions)}}, f"{folder}/{number}"
        )
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder)),
        BATCH,
        get_patch_size(size, turn, turn, turn, (0.85, 1.25)),
        size,
        SimpleNamespace(all_labels=[0, 1], has_ignore_label=False),
        oversample_foreground_percent=0.33,
        transforms=nnUNetTrainer.get_training_transforms(
            np.array(size), turn, [(0.5**level,) * 2 for level in range(5)], (0, 1), False
        ),
    )

    def prepare() -> int:
        next(loader)
        return BATCH

    return prepare


def contenders(slices: Slices, folder: Path) -> dict[tuple[str, str], Prepare]:
    """Everything to measure, by package and probability; what cannot be imported is left out."""
    makers = {
        ("wmh", "1"): lambda: ours(slices, 1.0),
        ("wmh", f"{STUDY:g}, the study's"): lambda: ours(slices, STUDY),
        ("yucca", "1"): lambda: yucca(slices, True),
        ("yucca", "its defaults"): lambda: yucca(slices, False),
        ("monai", "1"): lambda: monai(slices, 1.0),
        ("monai", f"{STUDY:g}, the study's"): lambda: monai(slices, STUDY),
        ("torchio", "1"): lambda: torchio(slices, 1.0),
        ("torchio", f"{STUDY:g}, the study's"): lambda: torchio(slices, STUDY),
        ("nnunetv2", "its defaults"): lambda: nnunet(folder),
    }
    found = {}
    for name, make in makers.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found[name] = make()
        except ImportError as error:
            print(f"{name[0]} left out: {error}")
    return found


def slices_a_second(prepare: Prepare, clock: Callable[[], float]) -> float:
    """Slices prepared in a second of a clock: of the processor's, or of the wall's."""
    prepare()
    count, start = 0, clock()
    while clock() - start < SECONDS:
        count += prepare()
    return count / (clock() - start)


def main() -> None:
    """Measure all in turns and print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    folder = tempfile.TemporaryDirectory()
    entrants = contenders(blobs(), Path(folder.name))
    rounds = [
        {name: slices_a_second(prepare, time.process_time) for name, prepare in entrants.items()}
        for _ in range(ROUNDS)
    ]
    torch.set_num_threads(2)
    two = {
        name: max(slices_a_second(prepare, time.perf_counter) for _ in range(ROUNDS))
        for name, prepare in entrants.items()
        if name[0] == "wmh"
    }
    print("| package | probability | slices/s, one core | two cores | ours over it |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name in entrants:
        one = statistics.median(r[name] for r in rounds)
        against = ("wmh", "1" if name[1] == "1" else f"{STUDY:g}, the study's")
        ratio = statistics.median(r[against] / r[name] for r in rounds)
        both = two.get(name, 2 * one)
        version = importlib.metadata.version(name[0]) if name[0] != "wmh" else ""
        print(f"| {name[0]} {version} | {name[1]} | {one:,.0f} | {both:,.0f} | {ratio:.1f} |")
    print(f"\n{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
