"""Checkpoints that are not what the study says are refused, with what differs and what to do."""

import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning.models import CheckpointError, load_model, load_model_of
from wmh.learning.training import train

MODELS = {
    "flair": {"task": "lesions", "inputs": "flair", "steps": 1},
    "t1": {"task": "lesions", "inputs": "t1", "steps": 1},
}


def copied(study, model: str, other) -> None:
    """Train a model of one study and lay its checkpoint where another looks for it."""
    checkpoint = train(study, model, tiny_slices(0), tiny_slices(1, 6))
    place = other.model_folder("flair") / "checkpoint.pt"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(checkpoint.read_bytes())


def test_a_model_of_the_study_is_loaded(study):
    train(study, "flair", tiny_slices(0), tiny_slices(1, 6))
    model = load_model_of(study, "flair")
    assert (model.name, model.study, model.configuration.name) == ("flair", "tiny", "flair")


def other_network(**changes) -> dict:
    training = tiny_study().training
    network = training.network.model_copy(update=changes)
    return {"training": training.model_copy(update={"network": network}).model_dump()}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "elsewhere"}, r"study tiny where the study has elsewhere\."),
        ({"seed": 4}, r"seed 3 where the study has 4\."),
        ({"slices": {"voxel_size_mm": 2.0}}, r"voxel_size_mm None where the study has 2\.0\."),
        (
            other_network(architecture="multiresunet", width=16),
            r"network\.architecture unet where the study has multiresunet, network\.width 32 where",
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
    with pytest.raises(
        CheckpointError, match="model t1 where the study has flair, inputs t1 where"
    ):
        load_model_of(small, "flair")
    copied(small.of_repeat(2), "flair", small)
    with pytest.raises(CheckpointError, match="repeat 2 where the study has 1"):
        load_model_of(small, "flair")


@pytest.mark.parametrize("content", [{"weights": {}}, {"inputs": "flair"}, [1, 2]])
def test_a_missing_file_and_one_of_something_else_are_named(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint"):
        load_model(tmp_path / "none.pt")
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"foreign\.pt: not a checkpoint"):
        load_model(tmp_path / "foreign.pt")


def test_a_file_that_was_cut_short_is_named_in_one_line(study):
    checkpoint = train(study, "flair", tiny_slices(0), tiny_slices(1, 6))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: not a checkpoint") as error:
        load_model_of(study, "flair")
    assert "\n" not in str(error.value)
