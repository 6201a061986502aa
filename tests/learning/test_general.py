"""The general model: packed, read again, and the file that comes with the package."""

import hashlib

import pandas as pd
import pytest
import torch

from benchmarks.pack_general import pack
from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import general
from wmh.learning.general import WEIGHTS, load_general
from wmh.learning.models import CheckpointError, load_model
from wmh.learning.training import train
from wmh.settings import Evaluation

MODELS = {
    "first": {"task": "lesions", "inputs": "flair_t1_dropout", "steps": 2},
    "second": {"task": "lesions", "inputs": "flair_t1_dropout", "steps": 2},
    "flair": {"task": "lesions", "inputs": "flair", "steps": 2},
    "regions": {"task": "regions", "inputs": "flair_t1_dropout", "steps": 2},
}
SCANS = pd.DataFrame({"subject": ["a", "b"], "modality": ["FLAIR", "T1"], "size": [1.5, 2.5]})
TOLD = ([{"Data": "Tiny heads"}], [{"Data": "Others", "Dice": 0.6}], SCANS)


@pytest.fixture
def checkpoints(study, tmp_path, monkeypatch):
    """Files of trained models, by name; the general model's file is to lie beside them."""
    monkeypatch.setattr(general, "WEIGHTS", tmp_path / "weights/general.pt.gz")
    study = tiny_study(models=MODELS)
    return {model: train(study, model, tiny_slices(0), tiny_slices(1, 6)) for model in MODELS}


def test_what_was_packed_is_read_again_in_half_precision(checkpoints):
    chosen = [checkpoints[name] for name in ("first", "second", "regions")]
    path = pack(chosen, Evaluation(threshold=0.4, alpha=0.1), *TOLD)
    found = load_general()
    assert found.evaluation == Evaluation(threshold=0.4)
    assert (found.trained_on, found.scores) == TOLD[:2]
    pd.testing.assert_frame_equal(found.training_scans, SCANS)
    lesions, regions = found.model_of("lesions"), found.model_of("regions")
    assert (lesions.task, regions.task) == ("lesions", "regions")
    assert len(lesions.networks) == 2 and len(regions.networks) == 1
    assert (lesions.name, lesions.study, lesions.step) == ("general", "tiny", 2)
    for network, name in zip(lesions.networks, ("first", "second"), strict=True):
        (original,) = load_model(checkpoints[name]).networks
        pairs = zip(network.parameters(), original.parameters(), strict=True)
        for one, other in pairs:
            assert one.dtype == torch.float32
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    before = path.read_bytes()
    assert pack(chosen, Evaluation(threshold=0.4), *TOLD).read_bytes() == before
    digest = path.with_name("general.sha256").read_text().split()[0]
    assert digest == hashlib.sha256(before).hexdigest() == found.sha256


def test_models_that_are_shown_other_images_are_not_packed_together(checkpoints):
    with pytest.raises(CheckpointError, match=r"flair/checkpoint\.pt: other inputs than the first"):
        pack([checkpoints["first"], checkpoints["flair"]], Evaluation(), *TOLD)
    assert not general.WEIGHTS.exists()


def test_where_the_weights_are_missing_a_study_can_be_named(checkpoints):
    with pytest.raises(
        CheckpointError, match=r"general\.pt\.gz: the general model is missing.*--study"
    ):
        load_general()


def test_a_damaged_file_is_named(checkpoints):
    path = pack([checkpoints["first"]], Evaluation(), *TOLD)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"general\.pt\.gz: damaged .*Install wmh again"):
        load_general()


def test_the_packages_own_file_is_whole_and_small():
    content = WEIGHTS.read_bytes()
    digest = WEIGHTS.with_name("general.sha256").read_text().split()[0]
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) < 15e6


def test_the_packages_own_model_answers_from_either_image():
    found = load_general()
    for task in ("lesions", "regions"):
        configuration = found.model_of(task).configuration
        assert all(configuration.views_for(given) for given in (["FLAIR"], ["T1"]))
    assert found.trained_on and found.scores
    assert {"FLAIR", "T1"} <= set(found.training_scans["modality"])
