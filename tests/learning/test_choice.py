import pytest

from tests.learning.conftest import tiny_study
from wmh.learning.models import CheckpointError, choose_model

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
    with pytest.raises(CheckpointError, match="no lesions model answers from T1 alone"):
        choose_model(tiny_study(models=alone), "lesions", ["T1"])
