from dataclasses import replace

import pandas as pd
import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import training
from wmh.learning.batches import draw_batch, draw_slices
from wmh.learning.inference import CheckpointError, load_model
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.networks import build_network
from wmh.learning.skeletons import tubed_skeletons_of_slices
from wmh.learning.training import TrainingError, learning_rate, train

LEARN, VALIDATE = tiny_slices(0), tiny_slices(1, 6)


def weights(checkpoint) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["weights"]


def test_a_lesion_model_learns(study):
    longer = tiny_study(models={"flair": {"task": "lesions", "inputs": "flair", "steps": 120}})
    checkpoint = train(longer, "flair", LEARN, VALIDATE)
    history = pd.read_csv(checkpoint.parent / "history.csv")
    assert history["validation_dice"].max() > 0.8
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert not (checkpoint.parent / "resume.pt").exists()


@pytest.mark.parametrize("model", ["interchangeable", "multitask"])
def test_the_same_seed_gives_the_same_weights(study, model):
    first = weights(train(study, model, LEARN, VALIDATE))
    again = weights(train(study, model, LEARN, VALIDATE))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_an_interrupted_training_ends_with_the_same_weights(study, monkeypatch):
    whole = weights(train(study, "flair", LEARN, VALIDATE))
    draws = []

    def cut_at_the_fourth(*args):
        draws.append(None)
        if len(draws) == 4:
            raise KeyboardInterrupt
        return draw_batch(*args)

    monkeypatch.setattr(training, "draw_batch", cut_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train(study, "flair", LEARN, VALIDATE)
    assert (study.model_folder("flair") / "resume.pt").exists()
    monkeypatch.setattr(training, "draw_batch", lambda *a: draws.append(None) or draw_batch(*a))
    resumed = weights(train(study, "flair", LEARN, VALIDATE))
    assert len(draws) == 4 + 4  # steps 1 to 3 and the cut one, then steps 3 to 6: saved after 2
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_state_of_other_data_is_not_gone_on_from(study, monkeypatch, capsys):
    with monkeypatch.context() as cut_short:
        cut_short.setattr(training, "finish", lambda *args: None)  # leaves resume.pt behind
        train(study, "flair", LEARN, VALIDATE)
    train(study, "flair", tiny_slices(5), VALIDATE)
    assert "of other data" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_and_says_what_to_change(study, monkeypatch):
    monkeypatch.setattr(
        training, "loss_of", lambda logits, *_: sum(v.sum() for v in logits.values()) * torch.nan
    )
    with pytest.raises(TrainingError, match=r"flair: the loss is nan by step 2.*learning_rate"):
        train(study, "flair", LEARN, VALIDATE)
    assert not (study.model_folder("flair") / "checkpoint.pt").exists()


def test_modality_dropout_shows_both_or_either(study):
    configuration = CONFIGURATIONS["flair_t1_dropout"]
    blank = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        batch = draw_batch(LEARN, configuration, "lesions", study.training, generator)
        blank.add(tuple(channel.eq(0).all().item() for channel in batch.images.unbind(1)))
    assert blank == {(False, False), (False, True), (True, False)}


def test_lesion_slices_make_up_their_share_of_a_batch(study):
    settings = study.training.model_copy(update={"structure_slices_share": 1.0})
    batch = draw_batch(
        LEARN, CONFIGURATIONS["flair"], "lesions", settings, torch.Generator().manual_seed(0)
    )
    assert (batch.labels["lesions"] == 1).flatten(1).any(dim=1).all()


def test_a_batch_is_made_of_people_in_equal_parts(study):
    for seed in range(10):
        chosen = draw_slices(
            LEARN, "lesions", 2, study.training, torch.Generator().manual_seed(seed)
        )
        assert sorted(LEARN.subject[chosen].view(2, 2)[:, 0].tolist()) == [0, 1]
        assert (LEARN.subject[chosen].view(2, 2).diff(dim=1) == 0).all()


def test_a_person_without_lesions_is_drawn_all_the_same(study):
    healthy = replace(LEARN, lesions=torch.zeros_like(LEARN.lesions))
    batch = draw_batch(
        healthy,
        CONFIGURATIONS["flair"],
        "lesions",
        study.training,
        torch.Generator().manual_seed(0),
    )
    assert [len(person.images) for person in batch.people] == [2, 2]


def test_each_person_goes_through_the_network_alone(study, monkeypatch):
    seen = []

    def watched(*args):
        network = build_network(*args)
        network.register_forward_pre_hook(
            lambda module, inputs: seen.append(len(inputs[0])) if module.training else None
        )
        return network

    monkeypatch.setattr(training, "build_network", watched)
    train(study, "flair", LEARN, VALIDATE)
    assert seen == [2] * 12  # six steps, two people with two slices each


def test_task_weights_are_learned_and_survive_an_interruption(study, monkeypatch):
    loss = study.training.loss.model_copy(update={"task_weights": "uncertainty"})
    settings = study.training.model_copy(update={"loss": loss})
    learned = study.model_copy(update={"training": settings})
    checkpoint = train(learned, "multitask", LEARN, VALIDATE)
    history = pd.read_csv(checkpoint.parent / "history.csv")
    weights_at_end = history[["lesions_weight", "regions_weight"]].iloc[-1]
    assert weights_at_end["lesions_weight"] < 1 < weights_at_end["regions_weight"]  # the easy one
    stopped = []

    def stop_after_four(*args):
        if len(stopped) == 4:
            raise KeyboardInterrupt
        stopped.append(None)
        return draw_batch(*args)

    with monkeypatch.context() as cut_short:
        cut_short.setattr(training, "draw_batch", stop_after_four)
        with pytest.raises(KeyboardInterrupt):
            train(learned, "multitask", LEARN, VALIDATE)
    train(learned, "multitask", LEARN, VALIDATE)
    again = pd.read_csv(checkpoint.parent / "history.csv")
    pd.testing.assert_series_equal(again["regions_weight"], history["regions_weight"])


def test_a_batch_has_skeletons_where_the_loss_needs_them(study):
    thinned = {"lesions": torch.from_numpy(tubed_skeletons_of_slices(LEARN.lesions.numpy()))}
    slices = replace(LEARN, skeletons=thinned)
    still = study.training.augmentation.model_copy(update={"probability": 0.0, "mirroring": False})
    settings = study.training.model_copy(
        update={
            "augmentation": still,
            "loss": study.training.loss.model_copy(update={"skeleton_recall": 1.0}),
        }
    )
    batch = draw_batch(
        slices, CONFIGURATIONS["flair"], "lesions", settings, torch.Generator().manual_seed(0)
    )
    expected = tubed_skeletons_of_slices(batch.labels["lesions"].numpy())
    assert expected.any()
    assert torch.equal(batch.labels["lesions_skeleton"], torch.from_numpy(expected))
    longer = study.model_copy(update={"training": settings})
    assert train(longer, "flair", slices, slices).exists()


def test_the_learning_rate_warms_up_and_ends_near_zero(study):
    rates = [learning_rate(step, 100, study.training) for step in range(100)]
    assert rates[9] == max(rates) == study.training.learning_rate
    assert rates[0] == pytest.approx(rates[9] / 10)
    assert rates[-1] < rates[9] / 500


def test_a_missing_and_a_foreign_checkpoint_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint"):
        load_model(tmp_path / "none.pt")
    torch.save({"weights": {}}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"foreign\.pt: not a checkpoint"):
        load_model(tmp_path / "foreign.pt")
