"""What a checkpoint says of its weights: enough to train them again."""

import platform
from importlib.metadata import version

import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import models, training
from wmh.learning.models import load_model_of
from wmh.learning.training import train
from wmh.settings import ModelSettings, SliceSettings, Training

LEARN, VALIDATE = tiny_slices(0), tiny_slices(1, 6)
CODE = {"commit": "0123456789abcdef", "dirty": True}


def read(checkpoint) -> dict:
    return torch.load(checkpoint, weights_only=True)


def test_a_checkpoint_holds_all_that_its_weights_come_from(study, monkeypatch):
    monkeypatch.setattr(models, "commit_here", lambda: CODE)
    content = read(train(study, "multitask", LEARN, VALIDATE))
    settings = content["settings"]
    assert ModelSettings(**settings["model"]) == study.models["multitask"]
    assert Training(**settings["training"]) == study.training
    assert SliceSettings(**settings["slices"]) == study.slices
    assert (content["seed"], content["repeat"], content["threads"]) == (3, 1, 1)
    assert content["split"] == {"learn": ["a", "b"], "validate": ["a", "b"]}
    assert content["versions"]["python"] == platform.python_version()
    assert content["versions"]["torch"] == version("torch")
    assert content["versions"]["wmh"] == version("wmh")
    assert {key: content[key] for key in CODE} == CODE
    assert content["step"] in (2, 4, 6)
    model = load_model_of(study, "multitask")
    assert (model.commit, model.dirty) == ("0123456789abcdef", True)
    assert model.versions == content["versions"]


def test_without_git_there_is_no_commit(study):
    content = read(train(study, "flair", LEARN, VALIDATE))
    assert content["commit"] is content["dirty"] is None


def test_the_commit_is_that_at_the_start(study, monkeypatch):
    commits = ["at the start", "at the end"]
    monkeypatch.setattr(models, "commit_here", lambda: {"commit": commits.pop(0), "dirty": False})
    assert read(train(study, "flair", LEARN, VALIDATE))["commit"] == "at the start"


def test_the_step_is_that_of_the_weights(study, monkeypatch):
    """Dice 0.1, 0.9, 0.7 after steps 2, 4, 6 is 0.1, 0.5, 0.6 when smoothed."""
    dice = [0.1, 0.9, 0.7]
    monkeypatch.setattr(
        training,
        "validation_scores",
        lambda *_: {"validation_loss": 1.0, "validation_dice": dice.pop(0)},
    )
    content = read(train(study, "flair", LEARN, VALIDATE))
    assert (content["step"], content["validation_dice"]) == (6, 0.7)


@pytest.mark.parametrize("model", ["flair", "multitask"])
def test_a_checkpoint_is_the_same_file_again_even_after_an_interruption(
    study, cut_before_step, model
):
    whole = train(study, model, LEARN, VALIDATE).read_bytes()
    assert train(tiny_study(), model, LEARN, VALIDATE).read_bytes() == whole
    with cut_before_step(4):
        train(study, model, LEARN, VALIDATE)
    assert train(study, model, LEARN, VALIDATE).read_bytes() == whole
