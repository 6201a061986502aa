"""Measures of files: pairing, errors that name the file, and the tidy table."""

import json
import math

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from wmh.analysis.evaluation import (
    COLUMNS,
    Case,
    evaluate,
    find_pairs,
    five_of_configurations,
    observer_cases,
)
from wmh.analysis.metrics import FIVE_MEASURES, lesion_metrics
from wmh.cli import app
from wmh.cohorts.cohort import Subject
from wmh.images import ImageError

AFFINE = np.diag([1.0, 1.2, 3.0, 1.0])


def write(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def truth():
    labels = np.zeros((10, 9, 5), dtype=np.float32)
    labels[2:5, 2:5, 1:3] = 1
    labels[7, 7, 4] = 2
    return labels


@pytest.fixture
def prediction(truth):
    return np.roll(truth == 1, 1, axis=0).astype(np.uint8)


def test_tidy_rows_hold_the_measures(tmp_path, truth, prediction):
    case = Case(
        "7",
        "utrecht_philips_3t",
        "flair",
        "FLAIR",
        true_lesions=write(tmp_path / "wmh.nii.gz", truth),
        lesions=write(tmp_path / "7_lesions.nii.gz", prediction),
        probability=write(tmp_path / "7_probability.nii.gz", prediction * np.float32(0.8)),
    )
    table = evaluate([case])
    assert list(table.columns) == list(COLUMNS)
    assert set(table["structure"]) == {"lesions"}
    values = table.set_index("metric")["value"]
    expected = lesion_metrics(truth, prediction, AFFINE)
    assert values[list(FIVE_MEASURES)].to_dict() == pytest.approx(expected)
    assert {"surface_dice", "lesion_recall_small", "calibration_error"} <= set(values.index)


def test_an_empty_probability_map_is_a_result(tmp_path, truth):
    nothing = np.zeros_like(truth)
    case = Case(
        "7",
        "",
        "t1",
        "T1",
        true_lesions=write(tmp_path / "wmh.nii.gz", truth),
        lesions=write(tmp_path / "7_lesions.nii.gz", nothing),
        probability=write(tmp_path / "7_probability.nii.gz", nothing),
    )
    values = evaluate([case]).set_index("metric")["value"]
    assert values["dice"] == 0
    assert math.isnan(values["hd95_mm"])
    assert values["calibration_error"] == 1


def test_regions_have_a_structure_each(tmp_path):
    labels = np.arange(10 * 9 * 5).reshape(10, 9, 5).astype(np.uint8) % 37
    file = write(tmp_path / "regions.nii.gz", labels)
    table = evaluate([Case("7", "", "regions", "FLAIR+T1", true_regions=file, regions=file)])
    dice = table[table["metric"] == "dice"].set_index("structure")["value"]
    assert list(dice.index) == [f"region_{i:02d}" for i in range(1, 37)] + ["regions_mean"]
    assert (dice == 1).all()


def test_two_at_a_time_give_the_table_of_one_at_a_time(tmp_path, truth, prediction):
    cases = [
        Case(
            str(i),
            "",
            "flair",
            "FLAIR",
            true_lesions=write(tmp_path / f"{i}_truth.nii.gz", truth),
            lesions=write(tmp_path / f"{i}.nii.gz", np.roll(prediction, i, axis=1)),
        )
        for i in range(3)
    ]
    assert evaluate(cases, jobs=2).equals(evaluate(cases, jobs=1))


def test_no_cases_give_an_empty_table():
    assert list(evaluate([]).columns) == list(COLUMNS)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_prediction_on_another_grid_is_refused(tmp_path, truth, prediction, jobs):
    file = write(tmp_path / "wmh.nii.gz", truth)
    shifted = AFFINE.copy()
    shifted[0, 3] = 40
    other = write(tmp_path / "shifted.nii.gz", prediction, shifted)
    cases = [Case("7", "", "", "", true_lesions=file, lesions=path) for path in (file, other)]
    with pytest.raises(ImageError, match=r"shifted\.nii\.gz: lies on another grid.*Resample"):
        evaluate(cases, jobs=jobs)


@pytest.mark.parametrize(
    "name", ["{}.nii.gz", "{}_lesions.nii.gz", "{}/result.nii.gz", "{}/lesions.nii.gz"]
)
def test_challenge_truths_find_their_predictions(tmp_path, truth, prediction, name):
    for subject in ("100", "11"):
        write(tmp_path / "truth" / "test" / "Utrecht" / subject / "wmh.nii.gz", truth)
        write(tmp_path / "found" / name.format(subject), prediction)
    cases = find_pairs(tmp_path / "truth", tmp_path / "found")
    assert [case.subject for case in cases] == ["100", "11"]
    assert [case.lesions for case in cases] == [
        tmp_path / "found" / name.format(subject) for subject in ("100", "11")
    ]


def test_equal_names_pair(tmp_path, truth, prediction):
    for name in ("a.nii.gz", "b.nii"):
        write(tmp_path / "truth" / name, truth)
        write(tmp_path / "found" / name, prediction)
    cases = find_pairs(tmp_path / "truth", tmp_path / "found")
    assert [(case.subject, case.lesions.name) for case in cases] == [
        ("a", "a.nii.gz"),
        ("b", "b.nii"),
    ]


def test_two_files_are_a_pair(tmp_path):
    (case,) = find_pairs(tmp_path / "wmh.nii.gz", tmp_path / "mine.nii.gz")
    assert (case.true_lesions, case.lesions) == (tmp_path / "wmh.nii.gz", tmp_path / "mine.nii.gz")


def test_a_truth_without_prediction_is_named(tmp_path, truth):
    write(tmp_path / "truth" / "12" / "wmh.nii.gz", truth)
    with pytest.raises(ImageError, match=r"no prediction for .*12/wmh.nii.gz. Expected one of"):
        find_pairs(tmp_path / "truth", tmp_path)


def test_a_folder_without_truths_is_named(tmp_path):
    with pytest.raises(ImageError, match="no NIfTI image below"):
        find_pairs(tmp_path, tmp_path)


def test_the_command_prints_the_five_measures(tmp_path, truth, prediction):
    files = write(tmp_path / "wmh.nii.gz", truth), write(tmp_path / "mine.nii.gz", prediction)
    result = CliRunner().invoke(app, ["evaluate", *map(str, files)])
    assert json.loads(result.stdout) == pytest.approx(lesion_metrics(truth, prediction, AFFINE))


def test_the_command_measures_a_folder(tmp_path, truth, prediction):
    for subject, found in (("1", truth == 1), ("2", prediction), ("3", truth == 9)):
        write(tmp_path / "truth" / subject / "wmh.nii.gz", truth)
        write(tmp_path / "found" / f"{subject}.nii.gz", found.astype(np.uint8))
    folders = [str(tmp_path / "truth"), str(tmp_path / "found")]
    table = tmp_path / "all.csv"
    result = CliRunner().invoke(app, ["evaluate", *folders, "--json", "--out", str(table)])
    shown = json.loads(result.stdout)
    assert list(shown) == ["1", "2", "3", "mean"]
    assert shown["3"]["hd95_mm"] is None
    assert shown["mean"]["dice"] == pytest.approx((1 + shown["2"]["dice"]) / 3)
    written = pd.read_csv(table, dtype={"subject": str})
    assert set(written["subject"]) == {"1", "2", "3"}
    assert "surface_dice" in set(written["metric"])
    printed = CliRunner().invoke(app, ["evaluate", *folders]).stdout.splitlines()
    assert printed[0].split() == list(shown["1"])
    assert [line.split()[0] for line in printed[1:]] == list(shown)
    assert float(printed[-1].split()[1]) == pytest.approx(shown["mean"]["dice"], abs=1e-3)


def test_the_command_wants_files_or_a_study(tmp_path):
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "wmh.nii.gz")])
    assert result.exit_code == 2
    assert "--study" in result.stderr


def test_a_study_is_shown_by_model_and_what_it_was_given(tmp_path, truth, prediction):
    file, found = write(tmp_path / "wmh.nii.gz", truth), write(tmp_path / "p.nii.gz", prediction)
    cases = [
        Case(subject, "", "flair_t1", given, true_lesions=file, lesions=lesions)
        for subject in ("1", "2")
        for given, lesions in (("FLAIR", file if subject == "1" else found), ("FLAIR+T1", file))
    ]
    shown = five_of_configurations(evaluate(cases))
    assert list(shown) == ["flair_t1 (FLAIR)", "flair_t1 (FLAIR+T1)"]
    one = lesion_metrics(truth, prediction, AFFINE)["dice"]
    assert shown["flair_t1 (FLAIR)"]["dice"] == pytest.approx((1 + one) / 2)
    assert list(shown["flair_t1 (FLAIR+T1)"]) == list(FIVE_MEASURES)


def test_label_2_of_a_prediction_is_lesion_as_in_the_challenge(tmp_path, truth):
    both = np.where(truth == 1, 2, 0).astype(np.uint8)
    files = write(tmp_path / "wmh.nii.gz", truth), write(tmp_path / "p.nii.gz", both)
    assert evaluate(find_pairs(*files)).set_index("metric")["value"]["dice"] == 1


def test_additional_observers_become_cases(tmp_path, truth):
    place = "training/Utrecht/0"
    lesions = write(tmp_path / place / "wmh.nii.gz", truth)
    subject = Subject("0", "training", "utrecht_philips_3t", None, None, lesions)
    assert observer_cases(tmp_path, [subject]) == []
    write(tmp_path / "additional_annotations" / "observer_o3" / place / "result.nii.gz", truth)
    (case,) = observer_cases(tmp_path, [subject])
    assert case.model == "observer_o3"
    assert evaluate([case]).set_index("metric")["value"]["dice"] == 1
