import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import training
from wmh.learning.batches import Batch, draw_batch, draw_people, draw_slices
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.losses import loss_of
from wmh.learning.models import load_model
from wmh.learning.networks.build import build_network
from wmh.learning.skeletons import tubed_skeletons_of_slices
from wmh.learning.slices import Slices
from wmh.learning.training import Run, TrainingError, steady_dice, train

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LEARN, VALIDATE = tiny_slices(0), tiny_slices(1, 6)


def _images(batch: Batch) -> torch.Tensor:
    return torch.cat([part.images for part in batch.parts])


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


def test_so_it_does_on_two_threads(study):
    flair = {"flair": {"task": "lesions", "inputs": "flair", "steps": 2}}
    on_two = tiny_study(models=flair, compute={"threads": 2})
    first, again = (weights(train(on_two, "flair", LEARN, VALIDATE)) for _ in range(2))
    assert torch.get_num_threads() == 2
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_an_interrupted_training_ends_with_the_same_weights(study, monkeypatch, cut_before_step):
    whole = weights(train(study, "flair", LEARN, VALIDATE))
    with cut_before_step(4):
        train(study, "flair", LEARN, VALIDATE)
    draws = []
    assert (study.model_folder("flair") / "resume.pt").exists()
    monkeypatch.setattr(training, "draw_batch", lambda *a: draws.append(None) or draw_batch(*a))
    resumed = weights(train(study, "flair", LEARN, VALIDATE))
    assert len(draws) == 4  # steps 3 to 6: saved after 2
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def notebook_loop(notebook: str) -> str:
    """The cell that a notebook trains in, after its imports."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    imports, *others = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    (loop,) = [cell for cell in others if "run.descend(" in cell]
    return f"{imports}\n{loop}"


@pytest.mark.parametrize("notebook", ["03_train_lesions", "04_train_regions_multitask"])
def test_the_loop_that_a_notebook_shows_gives_the_same_bits(study, notebook, cut_before_step):
    for model in ("flair", "multitask"):
        whole = weights(train(study, model, LEARN, VALIDATE))
        with cut_before_step(4):
            train(study, model, LEARN, VALIDATE)  # and the notebook goes on
        names = {"run": Run(study, model, LEARN, VALIDATE)}
        exec(notebook_loop(notebook), names)
        shown = weights(names["checkpoint"])
        assert all(torch.equal(whole[name], shown[name]) for name in whole)


@pytest.mark.parametrize("stopped_in", ["step", "validation"])
def test_a_cell_that_was_interrupted_and_runs_again_gives_the_same_bits(study, capsys, stopped_in):
    whole = weights(train(study, "flair", LEARN, VALIDATE))
    run = Run(study, "flair", LEARN, VALIDATE)
    loop, names = notebook_loop("03_train_lesions"), {"run": run}

    def stop(*_):
        if run.step == (3 if stopped_in == "step" else 4):
            raise KeyboardInterrupt

    if stopped_in == "step":
        step = run.optimiser.step
        run.optimiser.step = lambda: (step(), stop())
    else:
        run.network.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        exec(loop, names)
    run.network.load_state_dict(run.best_weights)  # to look at what it finds so far
    exec(loop, names)
    again = weights(names["checkpoint"])
    assert "Continuing from step 2" in capsys.readouterr().out
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    exec(loop, names)
    assert "flair: all 6 steps were taken; a new Run begins afresh" in capsys.readouterr().out


def test_nothing_is_finished_before_the_first_validation(study):
    run = Run(study, "flair", LEARN, VALIDATE)
    with pytest.raises(TrainingError, match="flair: no weights are kept"):
        run.finish()
    assert not (run.folder / "history.csv").exists()


def test_a_state_of_other_data_is_not_gone_on_from(study, monkeypatch, capsys):
    with monkeypatch.context() as cut_short:
        cut_short.setattr(Run, "finish", lambda run: None)  # leaves resume.pt behind
        train(study, "flair", LEARN, VALIDATE)
    train(study, "flair", tiny_slices(5), VALIDATE)
    assert "made with other data" in capsys.readouterr().out


def one_a_batch(study):
    """The study with slices of one person in each batch."""
    settings = study.training.model_copy(update={"people_a_batch": 1})
    return study.model_copy(update={"training": settings})


def drawn_in_each_step(study, slices) -> list[tuple[str, ...]]:
    """Who is in the batch of each step of the model ``flair``."""
    configuration = CONFIGURATIONS["flair"]
    seeds = [study.seed_for("train", "flair", step) for step in range(6)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        draw_batch(slices, configuration, "lesions", study.training, generator).subjects
        for generator in generators
    ]


def test_a_batch_names_everyone_who_is_in_it(study):
    assert drawn_in_each_step(study, LEARN) == [("a", "b")] * 6
    assert set(drawn_in_each_step(one_a_batch(study), LEARN)) == {("a",), ("b",)}


def test_the_first_loss_that_is_not_finite_names_its_subjects_and_its_step(study):
    study = one_a_batch(study)
    broken = replace(
        LEARN, images=torch.where(LEARN.subject[:, None, None, None] == 1, torch.nan, LEARN.images)
    )
    step = drawn_in_each_step(study, LEARN).index(("b",)) + 1
    with pytest.raises(TrainingError) as error:
        train(study, "flair", broken, VALIDATE)
    assert f"flair: in step {step}, with slices of b, the loss is nan" in str(error.value)
    assert "lower training.learning_rate" in str(error.value)
    assert not (study.model_folder("flair") / "checkpoint.pt").exists()


def test_a_gradient_that_is_not_finite_is_found_in_its_own_step(study, monkeypatch):
    steps = []

    def steep(*args):
        steps.append(None)
        loss = loss_of(*args)
        if len(steps) == 5:  # 4 is the last before a validation; validation calls another
            return loss + (loss - loss.detach()).sqrt()  # its slope at 0 is infinite
        return loss

    monkeypatch.setattr(training, "loss_of", steep)
    with pytest.raises(
        TrainingError, match=r"in step 5, with slices of a, b, .*gradient (nan|inf)"
    ) as error:
        train(study, "flair", LEARN, VALIDATE)
    resume = study.model_folder("flair") / "resume.pt"
    assert f"it continues from step 4, kept in {resume}" in str(error.value)
    state = torch.load(resume, weights_only=True)
    assert state["step"] == 4
    assert all(value.isfinite().all() for value in state["network"].values())


def short_of_memory(*args):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def said_of(study, model="flair") -> str:
    with pytest.raises(TrainingError) as error:
        train(study, model, LEARN, VALIDATE)
    return str(error.value)


def test_a_batch_too_large_for_the_memory_names_the_setting_to_lower(study, monkeypatch):
    steps = []

    def short_in_the_third(*args):
        steps.append(None)
        return short_of_memory() if len(steps) == 3 else loss_of(*args)

    monkeypatch.setattr(training, "loss_of", short_in_the_third)
    said = said_of(study)
    resume = study.model_folder("flair") / "resume.pt"
    assert "memory ran out in step 3. Lower training.batch_size from 4 to 2. With the" in said
    assert f"continues from step 2, kept in {resume}" in said
    assert torch.load(resume, weights_only=True)["step"] == 2


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"batch_size": 9, "people_a_batch": 3}, "Lower training.batch_size from 9 to 3"),
        ({"batch_size": 2}, "Raise slices.voxel_size_mm from the native size to 2"),
        (
            {"batch_size": 1, "network": {"dimensions": 3, "patch_size": [32, 32, 16]}},
            "Lower training.network.patch_size from [32, 32, 16] to [16, 32, 16]",
        ),
        (
            {"batch_size": 1, "network": {"dimensions": 3, "patch_size": [16, 32, 16]}},
            "Lower training.network.width from 32 to 16",
        ),
    ],
)
def test_what_else_can_be_lowered(study, monkeypatch, changes, remedy):
    monkeypatch.setattr(training, "draw_batch", short_of_memory)
    settings = study.training.model_dump(exclude={"network"}) | changes
    assert said_of(tiny_study(training=settings)).endswith(f"memory ran out in step 1. {remedy}")


def test_people_too_large_to_validate_on_are_told_apart(study, monkeypatch):
    monkeypatch.setattr(training, "validation_scores", short_of_memory)
    said = said_of(study)
    assert (
        "were validated, after step 2. Raise slices.voxel_size_mm from the native size to 2" in said
    )


def test_slices_too_large_for_the_device_name_their_storage(study, monkeypatch):
    monkeypatch.setattr(Slices, "to", short_of_memory)
    said = said_of(study)
    assert "the slices do not fit into" in said and "Set slices.storage to auto" in said


def test_a_batch_may_be_larger_than_the_cohort(study):
    larger = study.model_copy(
        update={"training": study.training.model_copy(update={"batch_size": 40})}
    )
    chosen = draw_slices(LEARN, "lesions", 2, larger.training, torch.Generator().manual_seed(0))
    assert [len(numbers) for numbers in chosen] == [20, 20]  # of 12 slices
    assert len(set(torch.cat(chosen).tolist())) > 9
    assert train(larger, "flair", LEARN, VALIDATE).exists()


def test_the_history_is_handed_over_after_each_validation(study):
    seen = []
    checkpoint = train(study, "flair", LEARN, VALIDATE, on_validation=seen.append)
    assert [history["step"].tolist() for history in seen] == [[2], [2, 4], [2, 4, 6]]
    saved = pd.read_csv(checkpoint.parent / "history.csv")
    pd.testing.assert_frame_equal(seen[-1], saved)


def test_modality_dropout_shows_both_or_either(study):
    configuration = CONFIGURATIONS["flair_t1_dropout"]
    blank = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        batch = draw_batch(LEARN, configuration, "lesions", study.training, generator)
        blank.add(tuple(channel.eq(0).all().item() for channel in _images(batch).unbind(1)))
    assert blank == {(False, False), (False, True), (True, False)}


def test_lesion_slices_make_up_their_share_of_a_batch(study):
    settings = study.training.model_copy(update={"structure_slices_share": 1.0})
    batch = draw_batch(
        LEARN, CONFIGURATIONS["flair"], "lesions", settings, torch.Generator().manual_seed(0)
    )
    for part in batch.parts:
        assert (part.labels["lesions"] == 1).flatten(1).any(dim=1).all()


def test_a_batch_of_regions_holds_lesions_where_they_count_more(study):
    loss = study.training.loss.model_copy(update={"lesions_in_regions": 5.0})
    for settings, names in ((study.training, {"regions"}), (None, {"regions", "lesions"})):
        training = settings or study.training.model_copy(update={"loss": loss})
        generator = torch.Generator().manual_seed(0)
        batch = draw_batch(LEARN, CONFIGURATIONS["flair"], "regions", training, generator)
        assert set(batch.labels) == names
    models = {"regions": {"task": "regions", "inputs": "flair", "steps": 2}}
    weighted = tiny_study(models=models)
    weighted = weighted.model_copy(update={"training": training})
    assert train(weighted, "regions", LEARN, VALIDATE).exists()


def test_a_batch_is_made_of_people_in_equal_parts(study):
    for seed in range(10):
        chosen = draw_slices(
            LEARN, "lesions", 2, study.training, torch.Generator().manual_seed(seed)
        )
        drawn = LEARN.subject[torch.stack(chosen)]
        assert sorted(drawn[:, 0].tolist()) == [0, 1]
        assert drawn.shape == (2, 2)
        assert (drawn.diff(dim=1) == 0).all()


def test_a_person_without_lesions_is_drawn_all_the_same(study):
    healthy = replace(LEARN, lesions=torch.zeros_like(LEARN.lesions))
    batch = draw_batch(
        healthy,
        CONFIGURATIONS["flair"],
        "lesions",
        study.training,
        torch.Generator().manual_seed(0),
    )
    assert [len(part.images) for part in batch.parts] == [2, 2]


def test_each_person_is_seen_in_their_own_window(study):
    still = study.training.augmentation.model_copy(update={"probability": 0.0, "mirroring": False})
    settings = study.training.model_copy(update={"augmentation": still})
    narrow = replace(LEARN, windows=((32, 16), (16, 32)))
    batch, whole = (
        draw_batch(
            slices,
            CONFIGURATIONS["flair_t1"],
            "multitask",
            settings,
            torch.Generator().manual_seed(3),
        )
        for slices in (narrow, LEARN)
    )
    assert {tuple(part.images.shape[2:]) for part in batch.parts} == {(32, 16), (16, 32)}
    for part, all_of_it in zip(batch.parts, whole.parts, strict=True):
        height, width = part.images.shape[2:]
        middle = (
            ...,
            slice(16 - height // 2, 16 + height // 2),
            slice(16 - width // 2, 16 + width // 2),
        )
        assert torch.equal(part.images, all_of_it.images[middle])
        for structure, labels in part.labels.items():
            assert torch.equal(labels, all_of_it.labels[structure][middle])
    assert len(batch.labels["lesions"]) == 2 * 2 * 32 * 16
    assert train(study, "multitask", narrow, narrow).exists()


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


def test_task_weights_are_learned_and_survive_an_interruption(study, cut_before_step):
    loss = study.training.loss.model_copy(update={"task_weights": "uncertainty"})
    settings = study.training.model_copy(update={"loss": loss})
    learned = study.model_copy(update={"training": settings})
    checkpoint = train(learned, "multitask", LEARN, VALIDATE)
    history = pd.read_csv(checkpoint.parent / "history.csv")
    weights_at_end = history[["lesions_weight", "regions_weight"]].iloc[-1]
    assert weights_at_end["lesions_weight"] < 1 < weights_at_end["regions_weight"]  # the easy one
    with cut_before_step(5):
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
    for part in batch.parts:
        expected = tubed_skeletons_of_slices(part.labels["lesions"].numpy())
        assert expected.any()
        assert torch.equal(part.labels["lesions_skeleton"], torch.from_numpy(expected))
    longer = study.model_copy(update={"training": settings})
    assert train(longer, "flair", slices, slices).exists()


@pytest.mark.parametrize(
    ("dice", "steady"),
    [
        ((0.3, 0.7, 0.6, 0.66), (0.15, 0.425, 0.5125, 0.58625)),
        ((0.64, 0.56, 0.56, 0.6), (0.32, 0.44, 0.5, 0.55)),  # nor does the first
    ],
)
def test_one_lucky_validation_does_not_win(dice, steady):
    history = []
    for value in dice:
        history.append({"steady_dice": steady_dice(history, value)})
    assert [row["steady_dice"] for row in history] == pytest.approx(steady)


def test_further_people_get_their_share_of_the_batches(study):
    many = replace(
        LEARN,
        subject=torch.arange(12) // 2,
        ids=tuple("abcdef"),
        windows=((32, 32),) * 6,
        further=(False,) * 5 + (True,),
    )
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_people(many, 2, 0.4, generator) for _ in range(500)]
    assert all(len(set(people)) == 2 for people in drawn)
    assert np.mean([5 in people for people in drawn]) == pytest.approx(1 - 0.6**2, abs=0.06)
    nobody = replace(many, further=())
    assert np.mean([5 in draw_people(nobody, 2, 0.4, generator) for _ in range(500)]) < 0.45


def test_repeats_train_other_weights_into_other_folders(study):
    settings = study.training.model_dump() | {"repeats": 2}
    first, second = tiny_study(training=settings).repeats()
    paths = [train(one, "flair", LEARN, VALIDATE) for one in (first, second)]
    again = torch.load(train(second, "flair", LEARN, VALIDATE), weights_only=True)
    assert [path.parent.name for path in paths] == ["flair", "flair_repeat_2"]
    contents = [torch.load(path, weights_only=True) for path in paths]
    assert [content["repeat"] for content in contents] == [1, 2]
    one, two, same = (content["weights"] for content in (*contents, again))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(two[name], same[name]) for name in two)
    assert load_model(paths[1]).name == "flair"


def test_the_only_repeat_is_the_first_of_several(study):
    alone = weights(train(study, "flair", LEARN, VALIDATE))
    several = tiny_study(training=study.training.model_dump() | {"repeats": 3})
    first = weights(train(several, "flair", LEARN, VALIDATE))
    assert all(torch.equal(alone[name], first[name]) for name in alone)
