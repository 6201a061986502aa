"""Trainings that start from the weights of others."""

import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study, write_study
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.models import CheckpointError
from wmh.learning.networks.build import build_network
from wmh.learning.start import start_from
from wmh.learning.training import train
from wmh.study import Study

LEARN, VALIDATE = tiny_slices(0), tiny_slices(1, 6)
MODELS = {
    "both": {"task": "lesions", "inputs": "flair_t1_dropout", "steps": 2},
    "joint": {"task": "multitask", "inputs": "flair_t1", "steps": 2},
}


def after(source: Study, name: str, task: str, inputs: str, **changes) -> Study:
    """A study whose model of this name starts from that of another study."""
    training = source.training.model_dump() | {"start_from": "tiny"} | changes
    models = {name: {"task": task, "inputs": inputs, "steps": 2}}
    return tiny_study(name="later", training=training, models=models)


def started(study: Study, name: str) -> dict[str, torch.Tensor]:
    settings = study.models[name]
    torch.manual_seed(0)
    channels = CONFIGURATIONS[settings.inputs].channels
    network = build_network(study.training.network, channels, settings.task)
    start_from(network, study, name)
    return network.state_dict()


@pytest.fixture
def source(study):
    made = tiny_study(models=MODELS)
    write_study(made)
    return made


def weights(source: Study, name: str) -> dict[str, torch.Tensor]:
    path = train(source, name, LEARN, VALIDATE)
    return torch.load(path, weights_only=True)["weights"]


def test_a_model_of_the_same_kind_starts_with_all_weights(source):
    known = weights(source, "both")
    found = started(after(source, "both", "lesions", "flair_t1"), "both")
    assert all(torch.equal(found[name], known[name]) for name in found)


def test_one_image_takes_the_filters_that_saw_it(source):
    known = weights(source, "both")
    for inputs, channel in (("flair", 0), ("t1", 1), ("interchangeable", 0)):
        found = started(after(source, "both", "lesions", inputs), "both")
        for name, tensor in found.items():
            theirs = known[name]
            if tensor.shape != theirs.shape:
                theirs = theirs[:, [channel]]
            assert torch.equal(tensor, theirs)


def test_a_joint_model_gives_lesions_what_they_share(source):
    known = weights(source, "joint")
    found = started(after(source, "joint", "lesions", "flair_t1"), "joint")
    for name, tensor in found.items():
        theirs = known[f"network.{name}"]
        assert torch.equal(tensor, theirs if tensor.shape == theirs.shape else theirs[:, :2])


def test_training_starts_there_and_moves_on(source):
    known = weights(source, "both")
    later = after(source, "both", "lesions", "flair_t1_dropout", learning_rate=1e-6)
    path = train(later, "both", LEARN, VALIDATE)
    found = torch.load(path, weights_only=True)["weights"]
    for name in found:
        assert torch.allclose(found[name], known[name], atol=1e-4)
    assert any(not torch.equal(found[name], known[name]) for name in found)


def test_another_network_is_refused_with_what_to_set(source):
    weights(source, "both")
    network = source.training.network.model_dump() | {"decoder_channels": (16, 16, 8)}
    other = after(source, "both", "lesions", "flair_t1", network=network)
    with pytest.raises(CheckpointError, match=r"training.network decoder_channels: \[16, 8, 8\]"):
        started(other, "both")


def test_a_study_that_was_not_trained_is_named(source):
    with pytest.raises(CheckpointError, match="Train it first"):
        started(after(source, "both", "lesions", "flair_t1"), "both")
