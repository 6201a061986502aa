"""A study with tiny trained models, and scans to show it."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from benchmarks.pack_general import pack
from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import general, models
from wmh.learning.training import train
from wmh.predict.training_distribution import EXTENT, INTENSITY, VOXEL
from wmh.settings import Evaluation

MODELS = {
    "flair": {"task": "lesions", "inputs": "flair", "steps": 2},
    "flair_t1": {"task": "lesions", "inputs": "flair_t1", "steps": 2},
    "regions": {"task": "regions", "inputs": "flair_t1_dropout", "steps": 2},
}
SHAPE = (60, 72, 9)
SIZES = dict.fromkeys(EXTENT, 100.0) | dict.fromkeys(VOXEL, 1.5)
COMMIT = {"commit": "0123456789abcdef", "dirty": True}
"""Of the code that trained them."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The project's folder and its study, with every model trained."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("studies", "notebooks"):
        (root / folder).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMH_ROOT", str(root))
        patch.setattr(models, "commit_here", lambda: COMMIT)
        study = tiny_study(models=MODELS)
        for model in MODELS:
            train(study, model, tiny_slices(0), tiny_slices(1, 6))
    return root, study


@pytest.fixture
def study(trained, monkeypatch):
    monkeypatch.setenv("WMH_ROOT", str(trained[0]))
    return trained[1]


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """The file of a tiny general model: two networks for lesions, one for regions."""
    root = tmp_path_factory.mktemp("general")
    tasks = {"lesions": "lesions", "again": "lesions", "regions": "regions"}
    models = {
        m: {"task": task, "inputs": "flair_t1_dropout", "steps": 2} for m, task in tasks.items()
    }
    study = tiny_study(name="general", models=models)
    scans = pd.DataFrame([{"subject": "a", "modality": "FLAIR"} | SIZES] * 2)
    scans[INTENSITY] = np.linspace(0.5, 1.5, len(INTENSITY)) * [[1.0], [1.02]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(study), "results", root)
        patch.setattr(general, "WEIGHTS", root / "weights/general.pt.gz")
        checkpoints = [train(study, m, tiny_slices(0), tiny_slices(1, 6)) for m in study.models]
        return pack(
            checkpoints,
            Evaluation(threshold=0.4),
            [{"Data": "Tiny heads", "People": 2, "Licence": "CC0"}],
            [{"Data": "Other heads", "Given": "FLAIR", "Dice": 0.61}],
            scans,
        )


@pytest.fixture
def general_model(packed, monkeypatch):
    """The tiny general model in place of the package's, and no study anywhere."""
    monkeypatch.delenv("WMH_ROOT", raising=False)
    monkeypatch.setattr(general, "WEIGHTS", packed)
    return packed


def write_scan(path, codes="LPS", voxel=(1.5, 1.5, 3.0), shape=SHAPE):
    """A bright head on a grid with the given axis codes, slightly oblique."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    data = np.where((x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 0.95) ** 2 < 1, 100, 0)
    affine = np.diag([*voxel, 1.0])
    affine[:3, :3] = np.array([[0.99, -0.1, 0], [0.1, 0.99, 0], [0, 0, 1]]) @ affine[:3, :3]
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    affine = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    turned = nib.apply_orientation(data, turn).astype(np.int16)
    nib.save(nib.Nifti1Image(turned, affine), path)
    return path
