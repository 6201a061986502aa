"""A tiny study whose lesions a network can learn in seconds: bright squares on a grey head."""

from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
import torch
import yaml

from wmh.learning import training
from wmh.learning.batches import draw_batch
from wmh.learning.slices import Slices
from wmh.study import Study, project_root


def tiny_study(**changes) -> Study:
    settings = {
        "name": "tiny",
        "title": "Tiny",
        "seed": 3,
        "cohort": {"source": "challenge", "folder": "nowhere"},
        "training": {
            "batch_size": 4,
            "learning_rate": 0.005,
            "validate_every": 2,
            "precision": "float32",
            "network": {"encoder": "resnet10t", "depth": 3, "decoder_channels": [16, 8, 8]},
        },
        "models": {
            "flair": {"task": "lesions", "inputs": "flair", "steps": 6},
            "flair_t1": {"task": "lesions", "inputs": "flair_t1", "steps": 6},
            "interchangeable": {"task": "lesions", "inputs": "interchangeable", "steps": 6},
            "multitask": {"task": "multitask", "inputs": "interchangeable", "steps": 6},
        },
    }
    settings["training"]["network"]["encoder"] = "tu-resnet10t"
    return Study(**(settings | changes))


def write_study(study: Study) -> None:
    """Put a study's settings where commands look for them."""
    settings = study.model_dump(mode="json", exclude={"name", "repeat"})
    path = project_root() / "studies" / f"{study.name}.yaml"
    path.write_text(yaml.safe_dump(settings))


def tiny_slices(seed: int = 0, count: int = 12) -> Slices:
    generator = np.random.default_rng(seed)
    images = np.full((count, 2, 32, 32), 1.0, np.float32) + generator.normal(
        0, 0.02, (count, 2, 32, 32)
    ).astype(np.float32)
    lesions = np.zeros((count, 32, 32), np.uint8)
    regions = np.zeros((count, 32, 32), np.uint8)
    regions[:, :16], regions[:, 16:] = 3, 20
    for index in range(0, count, 2):
        row, column = generator.integers(2, 20, 2)
        lesions[index, row : row + 9, column : column + 9] = 1
        images[index, 0, row : row + 9, column : column + 9] = 2.0
        images[index, 1, row : row + 9, column : column + 9] = 0.5
    subject = torch.arange(count) // (count // 2)
    depth_mm = torch.arange(count).flip(0) * 3.0
    arrays = (torch.from_numpy(array) for array in (images, lesions, regions))
    return Slices(*arrays, depth_mm, subject, ("a", "b"))


@pytest.fixture
def study(tmp_path, monkeypatch):
    for folder in ("studies", "notebooks"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    return tiny_study()


@pytest.fixture
def cut_before_step(monkeypatch):
    """A function that has a training interrupted as it draws the batch of step ``number``."""

    @contextmanager
    def cut_before(number: int):
        draws = count(1)

        def draw_or_stop(*args):
            if next(draws) == number:
                raise KeyboardInterrupt
            return draw_batch(*args)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, "draw_batch", draw_or_stop)
            yield

    return cut_before
