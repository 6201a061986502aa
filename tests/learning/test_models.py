"""Models: what their checkpoints state, which are refused, and which one answers."""

import platform
from importlib.metadata import version

import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import models, training
from wmh.learning.models import CheckpointError, choose_model, load_model, load_model_of
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


MODELS = {
    "flair": {"task": "lesions", "inputs": "flair", "steps": 1},
    "t1": {"task": "lesions", "inputs": "t1", "steps": 1},
}


def copied(study, model: str, other) -> None:
    """Train a model of one study and lay its checkpoint where another looks for it."""
    checkpoint = train(study, model, LEARN, VALIDATE)
    place = other.model_folder("flair") / "checkpoint.pt"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(checkpoint.read_bytes())


def test_a_model_of_the_study_is_loaded(study):
    train(study, "flair", LEARN, VALIDATE)
    model = load_model_of(study, "flair")
    assert (model.name, model.study, model.configuration.name) == ("flair", "tiny", "flair")


def other_network(**changes) -> dict:
    training = tiny_study().training
    network = training.network.model_copy(update=changes)
    return {"training": training.model_copy(update={"network": network}).model_dump()}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "elsewhere"}, r"study tiny \(the study has elsewhere\)\."),
        ({"seed": 4}, r"seed 3 \(the study has 4\)\."),
        ({"slices": {"voxel_size_mm": 2.0}}, r"voxel_size_mm None \(the study has 2\.0\)\."),
        (
            other_network(architecture="multiresunet", width=16),
            r"network\.architecture unet \(the study has multiresunet\), network\.width 32 \(",
        ),
    ],
)
def test_a_checkpoint_that_is_not_what_the_study_says_is_refused(study, changes, said):
    small = tiny_study(models=MODELS)
    copied(small, "flair", other := tiny_study(models=MODELS, **changes))
    with pytest.raises(
        CheckpointError, match=rf"flair/checkpoint\.pt: trained with {said}"
    ) as error:
        load_model_of(other, "flair")
    assert f"./run_all.sh {other.name}" in str(error.value)


def test_a_checkpoint_of_other_inputs_or_another_repeat_is_refused(study):
    small = tiny_study(models=MODELS, training=tiny_study().training.model_dump() | {"repeats": 2})
    copied(small, "t1", small)
    with pytest.raises(CheckpointError, match=r"model t1 \(the study has flair\), inputs t1 \("):
        load_model_of(small, "flair")
    copied(small.of_repeat(2), "flair", small)
    with pytest.raises(CheckpointError, match=r"repeat 2 \(the study has 1\)"):
        load_model_of(small, "flair")


@pytest.mark.parametrize("content", [{"weights": {}}, {"inputs": "flair"}, [1, 2]])
def test_a_missing_file_and_one_of_something_else_are_named(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint"):
        load_model(tmp_path / "none.pt")
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"foreign\.pt: not a checkpoint"):
        load_model(tmp_path / "foreign.pt")


def test_a_file_that_was_cut_short_is_named_in_one_line(study):
    checkpoint = train(study, "flair", LEARN, VALIDATE)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: not a checkpoint") as error:
        load_model_of(study, "flair")
    assert "\n" not in str(error.value)


ALL = {
    "interchangeable": {"task": "lesions", "inputs": "interchangeable", "steps": 1},
    "flair": {"task": "lesions", "inputs": "flair", "steps": 1},
    "t1": {"task": "lesions", "inputs": "t1", "steps": 1},
    "flair_t1": {"task": "lesions", "inputs": "flair_t1", "steps": 1},
    "regions": {"task": "regions", "inputs": "interchangeable", "steps": 1},
}


@pytest.mark.parametrize(
    ("given", "chosen"),
    [(["FLAIR"], "flair"), (["T1"], "t1"), (["FLAIR", "T1"], "flair_t1")],
)
def test_the_model_made_for_what_is_given_answers(given, chosen):
    assert choose_model(tiny_study(models=ALL), "lesions", given) == chosen
    assert choose_model(tiny_study(models=ALL), "regions", given) == "regions"


def test_the_interchangeable_model_stands_in():
    some = {name: ALL[name] for name in ("interchangeable", "flair_t1")}
    assert choose_model(tiny_study(models=some), "lesions", ["T1"]) == "interchangeable"


def test_a_model_trained_with_modality_dropout_stands_in_last():
    dropout = {"task": "lesions", "inputs": "flair_t1_dropout", "steps": 1}
    alone = tiny_study(models={"flair_t1": ALL["flair_t1"], "dropout": dropout})
    assert choose_model(alone, "lesions", ["FLAIR"]) == "dropout"
    assert choose_model(alone, "lesions", ["FLAIR", "T1"]) == "flair_t1"
    assert choose_model(tiny_study(models={"dropout": dropout, **ALL}), "lesions", ["T1"]) == "t1"


def test_a_study_of_one_joint_model_asks_it_for_both():
    joint = tiny_study(models={"joint": {"task": "multitask", "inputs": "flair", "steps": 1}})
    assert [choose_model(joint, task, ["FLAIR"]) for task in ("lesions", "regions")] == [
        "joint"
    ] * 2


def test_a_model_is_never_chosen_to_see_a_blank_channel():
    alone = {"flair_t1": ALL["flair_t1"]}
    with pytest.raises(CheckpointError, match="no lesions model can predict from T1 alone"):
        choose_model(tiny_study(models=alone), "lesions", ["T1"])
    with pytest.raises(CheckpointError, match="no model finds regions; add one of task regions or"):
        choose_model(tiny_study(models=alone), "regions", ["T1"])
