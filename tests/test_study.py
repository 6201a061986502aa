"""Study files: what they may say, and how they are refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wmh.cohorts.cohort import read_cohort, read_left_out
from wmh.encoders import nearest_encoders
from wmh.study import Study, StudyError, load_study, made, project_root

STUDIES = sorted(p.stem for p in (project_root() / "studies").glob("*.yaml"))


@pytest.fixture
def smoke() -> dict:
    return yaml.safe_load((project_root() / "studies" / "smoke.yaml").read_text())


def refused(settings: object, tmp_path: Path) -> str:
    """The line with which settings are refused; it must name the file."""
    path = tmp_path / "mine.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    with pytest.raises(StudyError) as caught:
        load_study(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_that_come_along_can_be_read(name):
    assert load_study(name).name == name


@pytest.mark.parametrize("name", ["smoke", "demo", "open", "paper"])
def test_these_studies_have_the_models_of_every_claim(name):
    expected = {"flair", "t1", "flair_t1", "interchangeable", "regions", "multitask"}
    assert set(load_study(name).models) >= expected


def test_the_smoke_test_of_volumes_has_the_smoke_tests_subjects():
    slices, volumes = load_study("smoke"), load_study("smoke3d")
    assert volumes.training.network.dimensions == 3
    assert (volumes.cohort, volumes.seed) == (slices.cohort, slices.seed)


def test_an_unknown_study_lists_those_there_are():
    with pytest.raises(StudyError, match=r"demo, .*paper, .*smoke"):
        load_study("nosuch")


def test_an_unknown_key_is_named_with_those_allowed(smoke, tmp_path):
    smoke["training"]["batchsize"] = 4
    message = refused(smoke, tmp_path)
    assert "training.batchsize: unknown key" in message
    assert "batch_size" in message


def test_an_unknown_key_of_a_model_is_named_with_those_allowed(smoke, tmp_path):
    smoke["models"]["flair"]["epochs"] = 4
    message = refused(smoke, tmp_path)
    assert "models.flair.epochs: unknown key; allowed are task, inputs, steps" in message


def test_a_misspelt_group_is_named_with_the_one_that_was_meant(smoke, tmp_path):
    smoke["cohrot"] = smoke.pop("cohort")
    assert "cohrot: unknown key; did you mean cohort? allowed are " in refused(smoke, tmp_path)


def test_an_encoder_that_is_not_installed_is_refused_with_the_nearest(smoke, tmp_path):
    smoke["training"]["network"]["encoder"] = "resnet81"
    message = refused(smoke, tmp_path)
    assert "training.network.encoder: no such encoder; did you mean " in message
    assert "resnet18" in message


@pytest.mark.parametrize("name", ["resnet34", "efficientnet-b0", "tu-regnetx_002", "tu-vgg11.tv"])
def test_encoders_of_both_libraries_are_known(name):
    assert nearest_encoders(name) == []


def test_settings_are_read_without_importing_what_takes_seconds():
    code = (
        "import sys; from wmh import ready, study; study.load_study('paper'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "segmentation_models_pytorch", "timm"} & set(done.stdout.split())


def test_a_home_in_a_path_is_the_users(smoke, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    smoke["cohort"] = {"source": "bids", "folder": "~/scans"}
    assert Study(name="x", **smoke).cohort_folder == Path("/home/me/scans")


def test_a_wrong_value_is_shown(smoke, tmp_path):
    smoke["training"]["batch_size"] = 0
    message = refused(smoke, tmp_path)
    assert "training.batch_size" in message
    assert "found 0" in message


def test_a_wrong_choice_lists_the_right_ones(smoke, tmp_path):
    smoke["models"]["flair"]["inputs"] = "pet"
    message = refused(smoke, tmp_path)
    assert "models.flair.inputs" in message
    assert "'flair_t1'" in message


def test_a_missing_setting_is_named(smoke, tmp_path):
    del smoke["cohort"]["folder"]
    assert "cohort.folder: missing" in refused(smoke, tmp_path)


def test_simulation_goes_with_a_simulated_cohort_only(smoke, tmp_path):
    smoke["cohort"]["source"] = "challenge"
    assert "simulation" in refused(smoke, tmp_path)


def test_a_name_inside_the_file_is_refused(smoke, tmp_path):
    assert "name" in refused(smoke | {"name": "other"}, tmp_path)


@pytest.mark.parametrize("text", ["title: [", "- a\n- b\n", ""])
def test_a_file_that_is_no_study_is_refused(text, tmp_path):
    refused(text, tmp_path)


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        load_study("demo").seed = 1


def test_seeds_differ_by_purpose_and_by_study_seed_and_stay():
    study = load_study("smoke")
    other = Study(**study.model_dump() | {"seed": study.seed + 1})
    purposes = [("train", "flair", 1), ("train", "flair", 11), ("train", "t1", 1), ("split",)]
    seeds = [one.seed_for(*purpose) for one in (study, other) for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert study.seed_for("split") == study.seed_for("split")
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_paths_lie_below_the_root_that_is_named(monkeypatch, tmp_path):
    study = load_study("smoke")
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    assert study.results == tmp_path / "results" / "smoke"
    assert study.model_folder("t1") == tmp_path / "results" / "smoke" / "models" / "t1"
    assert study.figures == tmp_path / "figures" / "smoke"


def test_models_come_by_task_in_the_order_of_the_file():
    study = load_study("smoke")
    assert study.models_of("lesions") == [
        "flair",
        "t1",
        "flair_t1",
        "flair_t1_dropout",
        "interchangeable",
    ]
    assert study.models_of("regions", "multitask") == ["regions", "multitask"]


def test_each_repeat_has_its_own_seeds_and_folders_and_the_first_is_the_study(smoke, tmp_path):
    smoke["training"]["repeats"] = 3
    path = tmp_path / "thrice.yaml"
    path.write_text(yaml.safe_dump(smoke))
    study = load_study(path)
    assert study.of_repeat(1) == study
    repeats = study.repeats()
    assert [one.model_folder("t1").name for one in repeats] == ["t1", "t1_repeat_2", "t1_repeat_3"]
    assert len({one.seed_for("train", "t1", 0) for one in repeats}) == 3
    assert repeats[0].seed_for("train") == load_study("smoke").seed_for("train")
    with pytest.raises(StudyError, match=r"no repeat 4; training\.repeats in its file is 3"):
        study.of_repeat(4)


def test_there_is_a_fold_for_each_repeat(smoke, tmp_path):
    smoke["training"] |= {"repeats": 3, "folds": 2}
    assert "at most folds, which is 2" in refused(smoke, tmp_path)


def test_a_batch_parts_into_equal_shares_of_its_people(smoke, tmp_path):
    smoke["training"] |= {"batch_size": 8, "people_a_batch": 3}
    assert "multiple of people_a_batch, which is 3" in refused(smoke, tmp_path)


def test_a_loss_without_any_term_is_refused(smoke, tmp_path):
    smoke["training"]["loss"] = {"cross_entropy": 0, "dice": 0}
    assert "one of cross_entropy, dice and skeleton_recall" in refused(smoke, tmp_path)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"width": 16}, "a 2-D unet does not use width"),
        ({"dimensions": 3}, "a 3-D unet does not use depth, decoder_channels"),
        (
            {"architecture": "unetr", "encoder": "resnet34", "patch_size": [32, 32, 16]},
            "a 2-D unetr does not use patch_size, encoder, depth, decoder_channels",
        ),
    ],
)
def test_a_setting_of_another_network_is_refused(smoke, tmp_path, network, words):
    smoke["training"]["network"] |= network
    assert words in refused(smoke, tmp_path)


def test_the_repeat_is_no_setting(smoke, tmp_path):
    assert "remove the key" in refused(smoke | {"repeat": 2}, tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"title: f\xfcr\n", "not valid YAML: unacceptable character"), (b"7: 8\n", "7: unknown key")],
)
def test_a_study_in_another_encoding_or_with_a_number_as_key_is_named(tmp_path, content, words):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(StudyError, match=words):
        load_study(tmp_path / "x.yaml")


def test_a_study_that_was_read_is_read_again(smoke, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(smoke))
    study = load_study(path)
    path.write_text(yaml.safe_dump(smoke | {"seed": 7}))
    assert (load_study(study).seed, load_study(study.of_repeat(1)).seed) == (7, 7)


def test_a_key_that_stands_twice_is_named(tmp_path):
    flair = "  flair: {task: lesions, inputs: flair, steps: 1}\n"
    message = refused(f"title: x\nmodels:\n{flair}{flair}", tmp_path)
    assert "the key flair stands there twice" in message
    assert "line 4" in message


def test_a_model_that_a_study_lacks_is_named_with_those_it_has():
    with pytest.raises(StudyError, match=r"no model flare; its models are flair, t1"):
        load_study("smoke").find_model("flare")


@pytest.mark.parametrize(
    ("group", "key", "value", "words"),
    [
        ("slices", "voxel_size_mm", 0.001, "slices.voxel_size_mm: Input should be greater"),
        ("training", "weight_decay", -1, "training.weight_decay: Input should be greater"),
        ("training", "augmentation", {"gamma": [-1, 2]}, "training.augmentation.gamma.0: Input"),
        (
            "training",
            "augmentation",
            {"scaling": [2, 1]},
            "scaling: the smaller number comes first",
        ),
        ("evaluation", "alpha", 0, "evaluation.alpha: Input should be greater"),
        ("evaluation", "threshold", 0, "evaluation.threshold: Input should be greater"),
        ("training", "learning_rate", float("inf"), "learning_rate: Input should be a finite"),
    ],
)
def test_a_number_that_nothing_can_be_computed_with_is_refused(
    smoke, tmp_path, group, key, value, words
):
    smoke[group][key] = value
    assert words in refused(smoke, tmp_path)


def test_a_study_without_models_or_subjects_is_refused(smoke, tmp_path):
    assert "models: Dictionary should have at least 1 item" in refused(
        smoke | {"models": {}}, tmp_path
    )
    smoke["cohort"]["simulation"]["test"] = {}
    assert "cohort.simulation.test: Dictionary should" in refused(smoke, tmp_path)


def test_a_name_that_a_repeated_training_has_is_refused(smoke, tmp_path):
    smoke["models"]["flair_repeat_2"] = smoke["models"]["flair"]
    assert "kept for repeated trainings" in refused(smoke, tmp_path)


@pytest.mark.parametrize("name", ["my model", "flair/t1", "../flair", "-flair"])
def test_a_name_that_cannot_name_a_file_is_refused(smoke, tmp_path, name):
    smoke["models"][name] = smoke["models"]["flair"]
    assert "use letters, digits, '_', '-' and '.'" in refused(smoke, tmp_path)
    with pytest.raises(StudyError, match=r"my study\.yaml: name: use letters"):
        (tmp_path / "my study.yaml").write_text("title: x")
        load_study(tmp_path / "my study.yaml")


def test_what_is_wrong_with_a_group_is_told_without_its_content(smoke, tmp_path):
    smoke["training"]["batch_size"] = 7
    message = refused(smoke, tmp_path)
    assert message.endswith("training: batch_size must be a multiple of people_a_batch, which is 2")


def test_a_file_that_is_not_made_yet_is_named_with_its_notebook(tmp_path):
    with pytest.raises(StudyError, match=r"metrics\.csv.* Run notebook 05_evaluation "):
        made(tmp_path / "metrics.csv")
    with pytest.raises(StudyError, match="Run notebook 02_atlas_registration "):
        made(tmp_path / "1.nii.gz", "02_atlas_registration")
    with pytest.raises(StudyError, match="Run notebook 01_data_preparation "):
        read_cohort(tmp_path / "cohort.csv")
    with pytest.raises(StudyError, match="Run notebook 01_data_preparation "):
        read_left_out(tmp_path)
