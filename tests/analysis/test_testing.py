"""Test subjects are predicted as the study says, by the study's own models only."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.learning.conftest import tiny_slices, tiny_study, write_study
from tests.predict.conftest import write_scan
from wmh.analysis import testing
from wmh.analysis.evaluation import evaluate
from wmh.analysis.testing import burden_table, cases_to_evaluate, most_given, predict_cohort
from wmh.cli import app
from wmh.cohorts.cohort import Subject, write_cohort
from wmh.images import Image, load_image, save_image
from wmh.learning.inference import predict, predict_prepared
from wmh.learning.models import CheckpointError, load_model_of
from wmh.learning.training import train
from wmh.settings import Evaluation

FLAIR = {"flair": {"task": "lesions", "inputs": "flair", "steps": 2}}


@pytest.fixture
def scanned(study, tmp_path):
    """A study with one trained model and one test subject; and the subject's FLAIR."""
    del study  # its fixture makes the project's root
    small = tiny_study(models=FLAIR, evaluation={"threshold": 0.3, "mirroring": True})
    train(small, "flair", tiny_slices(0), tiny_slices(1, 6))
    files = [write_scan(tmp_path / f"{name}.nii.gz") for name in ("flair", "t1")]
    write_cohort([Subject("p", "test", "a", *files)], small.results / "cohort.csv")
    return small, load_image(files[0])


def test_the_study_says_how_its_models_are_asked(scanned):
    study, flair = scanned
    predict_cohort(study)
    model = load_model_of(study, "flair")
    mirrored = predict(model, {"FLAIR": flair}, Evaluation(mirroring=True))
    alone = predict(model, {"FLAIR": flair})
    saved = load_image(study.prediction("flair", "FLAIR", "p", "probability")).data
    np.testing.assert_allclose(saved, mirrored.probability, atol=6e-4)
    assert np.abs(saved - alone.probability).max() > 0.01
    lesions = load_image(study.prediction("flair", "FLAIR", "p", "lesions")).data
    np.testing.assert_array_equal(lesions, mirrored.lesions(0.3))


def test_predictions_are_kept_until_what_made_them_changes(scanned, monkeypatch):
    study, _ = scanned
    predict_cohort(study)
    folder = study.prediction("flair", "FLAIR", "p", "lesions").parent
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    asked = []
    monkeypatch.setattr(
        testing, "predict_prepared", lambda *of: asked.append(of) or predict_prepared(*of)
    )
    predict_cohort(study)
    assert asked == []
    for name in ("p_made_of.txt", "p_lesions.nii.gz"):  # as a kill leaves it, or a user
        (folder / name).unlink()
        predict_cohort(study)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    other = study.evaluation.model_copy(update={"threshold": 0.6})
    predict_cohort(study.model_copy(update={"evaluation": other}))
    assert len(asked) == 3


def test_burden_is_of_what_each_model_made_of_the_most_it_was_given(study, tmp_path):
    """A model that looks at one image alone never answered from both."""
    models = {
        "flair": {"task": "lesions", "inputs": "flair", "steps": 2},
        "regions": {"task": "regions", "inputs": "t1", "steps": 2},
        "multitask": {"task": "multitask", "inputs": "interchangeable", "steps": 2},
    }
    small = tiny_study(models=models)
    assert [most_given(small, model) for model in models] == ["FLAIR", "T1", "FLAIR+T1"]
    lesion, region = np.zeros((2, 4, 4, 4), np.uint8)
    lesion[0, 0, :2] = 1
    region[:2] = 5
    like = Image(lesion, np.diag([10.0, 10.0, 10.0, 1.0]))
    truth = save_image(tmp_path / "truth.nii.gz", lesion, like)
    save_image(small.results / "regions" / "p.nii.gz", region, like)
    save_image(small.prediction("flair", "FLAIR", "p", "lesions"), lesion, like)
    save_image(small.prediction("regions", "T1", "p", "regions"), region, like)
    save_image(small.prediction("multitask", "FLAIR+T1", "p", "lesions"), 0 * lesion, like)
    save_image(small.prediction("multitask", "FLAIR+T1", "p", "regions"), region, like)
    write_cohort(
        [vars(Subject("p", "test", "x", truth, truth, truth))], small.results / "cohort.csv"
    )
    burden = burden_table(small)
    found = burden[burden["region"] == 5].set_index("source")["lesion_ml"].round(9)
    assert found.to_dict() == {"truth": 2.0, "registered": 2.0, "separate": 2.0, "joint": 0.0}


def test_of_unknown_regions_nothing_is_measured(study, tmp_path):
    """Empty labels stand for regions that are not known, and for no truth without any region."""
    models = {"multitask": {"task": "multitask", "inputs": "flair", "steps": 2}}
    small = tiny_study(models=models, regions={"atlas": "known"})
    lesion, region = np.zeros((2, 4, 4, 4), np.uint8)
    lesion[0, 0, :2] = 1
    region[:2] = 5
    like = Image(lesion, np.diag([10.0, 10.0, 10.0, 1.0]))
    truth, labels = (
        save_image(tmp_path / f"{name}.nii.gz", data, like)
        for name, data in (("truth", lesion), ("labels", region))
    )
    people = []
    for name, known in (("p", labels), ("q", None)):
        save_image(small.region_labels(name), region if known else 0 * region, like)
        for kind, data in (("lesions", lesion), ("probability", lesion), ("regions", region)):
            save_image(small.prediction("multitask", "FLAIR", name, kind), data, like)
        people.append(vars(Subject(name, "test", "x", truth, truth, truth, known)))
    write_cohort(people, small.results / "cohort.csv")
    assert set(burden_table(small)["subject"]) == {"p"}
    metrics = evaluate(cases_to_evaluate(small), jobs=1)
    measured = metrics.dropna(subset="value").groupby("structure")["subject"].unique()
    assert set(measured["lesions"]) == {"p", "q"}
    assert set(measured["region_05"]) == set(measured["regions_mean"]) == {"p"}


def test_the_checkpoint_of_another_study_predicts_nothing(scanned):
    study, _ = scanned
    changed = study.model_copy(update={"seed": 4})
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: trained with seed 3"):
        predict_cohort(changed)
    assert not (study.results / "predictions").exists()


def test_the_command_measures_what_a_studys_models_predicted(study, tmp_path):
    small = tiny_study(models=FLAIR)
    write_study(small)
    lesion, shifted = np.zeros((2, 8, 8, 4), np.uint8)
    lesion[2:4, 3, 2] = shifted[3:5, 3, 2] = 1
    like = Image(lesion, np.eye(4))
    truth = save_image(tmp_path / "truth.nii.gz", lesion, like)
    for name, found in (("a", lesion), ("b", shifted)):
        save_image(small.prediction("flair", "FLAIR", name, "lesions"), found, like)
        save_image(small.prediction("flair", "FLAIR", name, "probability"), found * 0.9, like)
    people = [Subject(name, "test", "x", truth, truth, truth) for name in "ab"]
    write_cohort(map(vars, people), small.results / "cohort.csv")
    done = CliRunner().invoke(app, ["evaluate", "--study", small.name, "--json"])
    assert done.exit_code == 0, done.output
    ((name, measures),) = json.loads(done.stdout).items()
    assert name == "flair (FLAIR)"
    assert measures["dice"] == pytest.approx((1 + 0.5) / 2)
