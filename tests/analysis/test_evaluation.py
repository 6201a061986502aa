"""Measures of files: pairing, errors that name the file, and the tidy table."""

import json
import math
from dataclasses import replace
from pathlib import Path

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
    means_with_n,
    observer_cases,
    undefined_note,
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
    cases = find_pairs(tmp_path / "truth", tmp_path / "found").cases
    assert [case.subject for case in cases] == ["100", "11"]
    assert [case.lesions for case in cases] == [
        tmp_path / "found" / name.format(subject) for subject in ("100", "11")
    ]


def test_equal_names_pair(tmp_path, truth, prediction):
    for name in ("a.nii.gz", "b.nii"):
        write(tmp_path / "truth" / name, truth)
        write(tmp_path / "found" / name, prediction)
    cases = find_pairs(tmp_path / "truth", tmp_path / "found").cases
    assert [(case.subject, case.lesions.name) for case in cases] == [
        ("a", "a.nii.gz"),
        ("b", "b.nii"),
    ]


def test_two_files_are_a_pair(tmp_path):
    (case,) = find_pairs(tmp_path / "wmh.nii.gz", tmp_path / "mine.nii.gz").cases
    assert (case.true_lesions, case.lesions) == (tmp_path / "wmh.nii.gz", tmp_path / "mine.nii.gz")


def test_where_nothing_pairs_the_first_truth_is_named(tmp_path, truth):
    write(tmp_path / "truth" / "12" / "wmh.nii.gz", truth)
    write(tmp_path / "found" / "13.nii.gz", truth)
    with pytest.raises(
        ImageError, match=r"no prediction has a truth \(.*12/wmh.nii.gz: no predict"
    ):
        find_pairs(tmp_path / "truth", tmp_path / "found")


def test_folders_that_cannot_be_compared_are_named(tmp_path):
    (tmp_path / "found").mkdir()
    with pytest.raises(ImageError, match="no lesion mask below"):
        find_pairs(tmp_path, tmp_path / "found")
    for other in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ImageError, match="is not a folder of predictions"):
            find_pairs(tmp_path, other)


@pytest.fixture
def bids(tmp_path, truth, prediction):
    """A BIDS folder with scans, manual masks, and what ``wmh predict`` wrote, in one place."""
    scan = np.random.default_rng(0).normal(100, 30, truth.shape).astype(np.float32)
    for name in ("sub-01", "sub-02_ses-a", "sub-02_ses-b"):
        place = "/".join((*name.split("_"), "anat", name))
        write(tmp_path / f"{place}_FLAIR.nii.gz", scan)
        write(tmp_path / f"derivatives/manual/{place}_desc-manual_mask.nii.gz", truth)
        own = tmp_path / "derivatives/wmh"
        write(own / f"{place}_label-WMH_mask.nii.gz", prediction)
        write(own / f"{place}_label-WMH_probseg.nii.gz", prediction * np.float32(0.7))
        write(own / f"{place}_label-WMregions_dseg.nii.gz", prediction)
        (own / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "wmh"}]}')
    return tmp_path


@pytest.mark.parametrize("truths", ["", "derivatives", "derivatives/manual"])
def test_what_wmh_predicted_pairs_with_manual_masks_by_subject_and_session(bids, truths):
    pairs = find_pairs(bids / truths, bids / "derivatives/wmh")
    assert [case.subject for case in pairs.cases] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    assert all("desc-manual" in case.true_lesions.name for case in pairs.cases)
    assert all(case.lesions.name == f"{case.subject}_label-WMH_mask.nii.gz" for case in pairs.cases)
    assert (pairs.unpaired, pairs.unused) == ([], [])
    assert not any("WMH_mask" in file.name for file in pairs.no_masks)


def test_predictions_of_other_ids_pair_as_bids_writes_these(bids, truth):
    for name in ("01", "sub-02"):
        write(bids / "flat" / f"{name}_lesions.nii.gz", truth)
    pairs = find_pairs(bids / "flat", bids / "derivatives/wmh")
    assert [case.subject for case in pairs.cases] == ["01"]
    (unclear,) = pairs.unpaired  # which session is it?
    assert "sub-02_lesions.nii.gz: several files could be its pair" in unclear
    assert len(pairs.unused) == 2 and "left out, " in pairs.note()


def test_a_scan_is_never_a_truth(tmp_path, truth, prediction):
    scan = np.random.default_rng(0).normal(100, 30, truth.shape).astype(np.int16)
    write(tmp_path / "truth/7.nii.gz", truth)
    write(tmp_path / "truth/8_0000.nii.gz", scan)
    write(tmp_path / "truth/7_T1.nii.gz", truth)
    for name in ("7", "8_0000", "7_T1"):
        write(tmp_path / f"found/{name}.nii.gz", prediction)
    pairs = find_pairs(tmp_path / "truth", tmp_path / "found")
    assert [case.true_lesions.name for case in pairs.cases] == ["7.nii.gz"]
    assert [file.name for file in pairs.no_masks][:2] == ["7_T1.nii.gz", "8_0000.nii.gz"]


def test_subjects_of_one_name_at_two_sites_stay_two(tmp_path, truth, prediction):
    for site in ("a", "b"):
        for folder, mask in (("truth", truth), ("found", prediction)):
            write(tmp_path / folder / site / "1.nii.gz", mask)
    pairs = find_pairs(tmp_path / "truth", tmp_path / "found")
    assert [case.subject for case in pairs.cases] == ["a/1.nii.gz", "b/1.nii.gz"]


def test_two_truths_of_a_subject_are_named_and_neither_is_taken(tmp_path, truth):
    for name in ("1", "1_manual", "2"):
        write(tmp_path / "truth" / f"{name}.nii.gz", truth)
    for name in ("1_pred", "2_pred"):
        write(tmp_path / "found" / f"{name}.nii.gz", truth)
    pairs = find_pairs(tmp_path / "truth", tmp_path / "found")
    assert [case.subject for case in pairs.cases] == ["2"]
    assert len(pairs.unpaired) == 2


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


def test_the_command_makes_the_folder_of_its_table_and_names_who_has_no_pair(tmp_path, truth):
    for name in ("1", "2"):
        write(tmp_path / f"truth/{name}/wmh.nii.gz", truth)
    write(tmp_path / "found/1.nii.gz", truth)
    folders, table = [str(tmp_path / "truth"), str(tmp_path / "found")], tmp_path / "new/all.csv"
    result = CliRunner().invoke(app, ["evaluate", *folders, "--out", str(table)])
    assert result.exit_code == 1
    assert set(pd.read_csv(table)["subject"]) == {1}
    assert result.stderr.splitlines() == [
        f"1 pairs, such as 1: {folders[0]}/1/wmh.nii.gz and {folders[1]}/1.nii.gz",
        f"left out, {folders[0]}/2/wmh.nii.gz: no prediction",
    ]


def test_a_destination_that_cannot_be_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").touch()
    missing = [str(tmp_path / "a"), str(tmp_path / "b")]
    for out, message in (
        (tmp_path, "is a folder;"),
        (tmp_path / "file/all.csv", "is a file, not a folder"),
    ):
        result = CliRunner().invoke(app, ["evaluate", *missing, "--out", str(out)])
        assert message in f"{result.stderr} {result.exception}"


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
    assert evaluate(find_pairs(*files).cases).set_index("metric")["value"]["dice"] == 1


def test_additional_observers_become_cases(tmp_path, truth):
    place = "training/Utrecht/0"
    lesions = write(tmp_path / place / "wmh.nii.gz", truth)
    subject = Subject("0", "training", "utrecht_philips_3t", None, None, lesions)
    assert observer_cases(tmp_path, [subject]) == []
    write(tmp_path / "additional_annotations" / "observer_o3" / place / "result.nii.gz", truth)
    further = replace(subject, id="1", lesions=Path("/elsewhere/1/wmh.nii.gz"), further=True)
    (case,) = observer_cases(tmp_path, [subject, further])
    assert case.model == "observer_o3"
    assert evaluate([case]).set_index("metric")["value"]["dice"] == 1


def test_means_say_over_whom_and_why_a_distance_is_undefined():
    values = {"dice": (0.5, 0.0, 0.0), "hd95_mm": (4.0, np.nan, np.nan)}
    values |= {"volume_truth_ml": (1.0, 1.0, 0.0), "volume_prediction_ml": (1.0, 0.0, 2.0)}
    about = {"model": "flair", "inputs_given": "FLAIR", "repeat": 1, "structure": "lesions"}
    metrics = pd.DataFrame(
        {**about, "subject": subject, "metric": metric, "value": value}
        for metric, three in values.items()
        for subject, value in zip("abc", three, strict=True)
    )
    shown = means_with_n(metrics, ["model", "inputs_given"], "metric")
    assert shown.loc[("flair", "FLAIR"), ["dice", "hd95_mm"]].tolist() == [
        "0.167 (n = 3)",
        "4.000 (n = 1)",
    ]
    assert undefined_note(metrics).endswith(
        "Of 3 predictions of lesions, it is undefined for 1 that are empty (flair given FLAIR 1) "
        "and for 1 whose truth is empty."
    )
    assert undefined_note(metrics.iloc[:0]) == "No model of this study predicts lesions."
