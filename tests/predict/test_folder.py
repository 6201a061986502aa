"""Everyone of a folder: derivatives, what is kept, who is left out."""

import fcntl
import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from tests.browser import DESK, PHONE, assert_self_contained, assert_sound, examine, needs_browser
from tests.predict.conftest import write_scan
from wmh.cohorts.bids import find_bids
from wmh.images import load_image
from wmh.predict.folder import predict_folder
from wmh.predict.report import outline_path
from wmh.predict.training_distribution import INTENSITY, compare_scan, describe_scan


@pytest.fixture
def people(tmp_path):
    """Two people with a FLAIR, one of them with two sessions, and one with a broken file."""
    for name in ("sub-1", "sub-2_ses-a", "sub-2_ses-b"):
        folder = tmp_path.joinpath("data", *name.split("_"), "anat")
        folder.mkdir(parents=True)
        write_scan(folder / f"{name}_FLAIR.nii.gz")
    broken = tmp_path / "data/sub-3/anat/sub-3_FLAIR.nii.gz"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no image")
    return tmp_path / "data"


def test_a_folder_becomes_derivatives_and_what_is_done_is_kept(study, people):
    out = people / "derivatives/wmh"
    done = predict_folder(study, people, out, jobs=2)
    assert [one.subject for one in done if one.problem] == ["sub-3"]
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "wmh"
    for place in ("sub-1/anat/sub-1", "sub-2/ses-b/anat/sub-2_ses-b"):
        for kind in ("WMH_mask", "WMH_probseg", "WMregions_dseg"):
            assert (out / f"{place}_label-{kind}.nii.gz").is_file()
            sidecar = json.loads((out / f"{place}_label-{kind}.json").read_text())
            assert sidecar["Sources"] == [f"bids:raw:{place}_FLAIR.nii.gz"]
    table = pd.read_csv(out / "participants_burden.tsv", sep="\t", dtype={"session_id": str})
    assert table["participant_id"].tolist() == ["sub-1", "sub-2", "sub-2"]
    assert set(json.loads((out / "participants_burden.json").read_text())) == set(table.columns)
    volumes = [f"region_{label:02d}_wmh_ml" for label in range(1, 35)]
    assert (table[volumes].sum(axis=1) <= table["wmh_total_ml"] + 1e-3).all()
    left_out = pd.read_csv(out / "left_out.tsv", sep="\t")
    assert left_out["problem"].str.contains("not a NIfTI image").all() and len(left_out) == 1
    assert all(not found.subject.lesions for found in find_bids(people))  # no truth from here

    before = (out / "participants_burden.tsv").read_text()
    write_scan(people / "sub-1/anat/sub-1_FLAIR.nii.gz", voxel=(1.4, 1.4, 3.0))
    again = predict_folder(study, people, out)
    assert [one.kept for one in again] == [False, True, True, False]
    assert (out / "participants_burden.tsv").read_text().splitlines()[2:] == before.splitlines()[2:]
    page = (out / "sub-1/report.html").read_text()
    assert_self_contained(page)
    assert "Not for diagnosis" in page and "TrainingStep" not in page


def test_two_at_once_in_one_folder_take_turns(study, people, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        table = tmp_path / "one.csv"
        table.write_text(f"id,flair\n1,{people}/sub-1/anat/sub-1_FLAIR.nii.gz\n")
        running = pool.submit(predict_folder, study, table, out)
        with pytest.raises(TimeoutError):
            running.result(timeout=1)
        assert [file.name for file in out.iterdir()] == [".lock"]
        fcntl.flock(other, fcntl.LOCK_UN)
        assert [one.problem for one in running.result()] == [None]


def test_a_full_disk_costs_a_subject_and_leaves_nothing_of_it(study, people, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wmh.predict.folder.write_report", full)
    out = people / "derivatives/wmh"
    done = predict_folder(study, people, out)
    assert all("No space left on device" in str(one.problem) for one in done[:3])
    left = {path.name for path in out.iterdir()}
    assert not any(name.startswith(("sub-", ".")) for name in left - {".bidsignore", ".lock"})


def test_what_looks_wrong_with_the_images_is_said_everywhere(study, tmp_path, capsys):
    folder = tmp_path / "data/sub-1/anat"
    folder.mkdir(parents=True)
    write_scan(folder / "sub-1_FLAIR.nii.gz")
    write_scan(folder / "sub-1_T1w.nii.gz")  # the same image
    for kept in (False, True):
        (done,) = predict_folder(study, tmp_path / "data", tmp_path / "out")
        assert done.kept is kept
        doubt = next(notice for notice in done.notices if "same image" in notice)
        assert doubt in capsys.readouterr().err
    assert doubt in (tmp_path / "out/sub-1/report.html").read_text()
    table = pd.read_csv(tmp_path / "out/participants_burden.tsv", sep="\t")
    assert doubt in table.loc[0, "notices"]


@needs_browser
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_report_in_a_browser(study, tmp_path, width):
    folder = tmp_path / "one/sub-1/anat"
    folder.mkdir(parents=True)
    write_scan(folder / "sub-1_FLAIR.nii.gz")
    predict_folder(study, tmp_path / "one", tmp_path / "out")
    script = """
      const slider = document.getElementById("slice"), seen = [];
      for (const at of [0, slider.max]) {
        slider.value = at;
        slider.dispatchEvent(new Event("input"));
        seen.push(document.getElementById("where").textContent.split(" ")[0]);
      }
      return seen;"""
    found = examine(tmp_path / "out/sub-1/report.html", tmp_path, width, script)
    assert_sound(found, width)
    first, last = map(int, found["probed"])
    assert last > first >= 1


def test_outlines_follow_the_edges_of_voxels():
    assert outline_path(np.array([[True]])) == "M0 0h1M0 1h1M0 0v1M1 0v1"
    assert outline_path(np.zeros((2, 2), bool)) == ""


def test_a_scan_is_alike_to_itself_and_unlike_a_coarser_one(tmp_path):
    scan = load_image(write_scan(tmp_path / "a.nii.gz"))
    training = pd.DataFrame([{"subject": "a", "modality": "FLAIR"} | describe_scan(scan)] * 2)
    training.loc[1, INTENSITY] += 0.01  # two people are never the same
    assert not any(quantity.unlike for quantity in compare_scan({"FLAIR": scan}, training))
    coarse = load_image(write_scan(tmp_path / "b.nii.gz", voxel=(1.5, 1.5, 6.0)))
    unlike = [q.unlike for q in compare_scan({"FLAIR": coarse}, training) if q.unlike]
    (thicker,) = (text for text in unlike if "slice thickness" in text)
    assert re.search(r"is 6 mm, larger than in the training scans \([\d.]+ mm\)$", thicker)
