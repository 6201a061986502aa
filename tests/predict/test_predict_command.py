"""Own scans predicted, as a user types it."""

import gzip
import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.learning.conftest import write_study
from tests.predict.conftest import write_scan
from wmh.cli import app
from wmh.learning import general
from wmh.settings import CohortSettings


@pytest.fixture
def predict(study, tmp_path):
    """A function that runs the command with the tiny trained study."""
    write_study(study)
    given = ("--study", study.name, "--out", tmp_path / "out")
    return lambda *words: CliRunner().invoke(app, ["predict", *map(str, (*words, *given))])


def test_a_folders_people_are_predicted_and_who_was_left_out_is_named_last(predict, tmp_path):
    scans = [tmp_path / f"data/{p}/anat/{p}_FLAIR.nii.gz" for p in ("sub-1", "sub-2")]
    for path in scans:
        path.parent.mkdir(parents=True)
    write_scan(scans[0])
    scans[1].write_bytes(b"no image")
    for said in ("1 predicted, 0 kept", "0 predicted, 1 kept"):
        done = predict(tmp_path / "data")
        assert done.exit_code == 1
        *_, counts, left_out, person = done.stdout.splitlines()
        assert counts == f"{tmp_path / 'out'}: {said}"
        assert left_out == "1 left out:"
        assert "sub-2_FLAIR.nii.gz" in person and "not a NIfTI image" in person
    assert (tmp_path / "out/sub-1/report.html").is_file()
    shutil.rmtree(tmp_path / "data/sub-2")
    assert predict(tmp_path / "data").exit_code == 0


def test_the_files_of_one_scan_are_listed(predict, tmp_path):
    done = predict("--flair", write_scan(tmp_path / "flair.nii.gz"))
    assert done.exit_code == 0, done.output
    assert sorted(done.stdout.split()) == sorted(map(str, (tmp_path / "out").iterdir()))
    assert str(tmp_path / "out/lesions.nii.gz") in done.stdout.split()


@pytest.mark.parametrize("modality", ["--flair", "--t1"])
def test_a_folder_and_a_scan_together_are_refused(predict, tmp_path, modality):
    refused = predict(tmp_path, modality, write_scan(tmp_path / "scan.nii.gz"))
    assert refused.exit_code == 2
    assert "give either" in refused.stderr
    assert not (tmp_path / "out").exists()


def ask(*words) -> object:
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def test_a_scan_is_answered_for_in_any_folder_without_a_study(general_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scan(tmp_path / "scan.nii.gz")
    done = ask("--flair", "scan.nii.gz")
    assert done.exit_code == 0, done.output
    written = tmp_path / "scan_wmh"
    assert sorted(done.stdout.split()) == sorted(f"scan_wmh/{p.name}" for p in written.iterdir())
    assert "Predicted by general model, given FLAIR. Not for diagnosis." in done.stderr
    page = (written / "report.html").read_text()
    for told in ("Tiny heads", "CC0", "Other heads", "0.61", "Comparison with the training data"):
        assert told in page
    assert "simulated heads only" not in page


@pytest.mark.parametrize("given", [["T1"], ["FLAIR", "T1"]])
def test_a_folder_is_answered_for_without_a_study(general_model, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    anat = tmp_path / "people/sub-1/anat"
    anat.mkdir(parents=True)
    for modality in given:
        ending = "T1w" if modality == "T1" else modality
        write_scan(anat / f"sub-1_{ending}.nii.gz")
    done = ask(tmp_path / "people")
    assert done.exit_code == 0, done.output
    assert f"1 by general model, given {' and '.join(given)}" in done.stderr
    table = pd.read_csv("people_wmh/participants_burden.tsv", sep="\t")
    assert table[["model", "given"]].to_numpy().tolist() == [["general", "+".join(given)]]
    assert "given" in json.loads((tmp_path / "people_wmh/participants_burden.json").read_text())


def test_who_is_done_is_kept_until_the_weights_change(general_model, tmp_path, monkeypatch):
    anat = tmp_path / "people/sub-1/anat"
    anat.mkdir(parents=True)
    write_scan(anat / "sub-1_FLAIR.nii.gz")
    changed = tmp_path / "changed.pt.gz"
    changed.write_bytes(gzip.compress(gzip.decompress(general_model.read_bytes()), 1, mtime=0))
    for weights, said in (
        (general_model, "1 predicted, 0 kept"),
        (general_model, "0 predicted, 1 kept"),
        (changed, "1 predicted, 0 kept"),
    ):
        monkeypatch.setattr(general, "WEIGHTS", weights)
        done = ask(tmp_path / "people", "--out", tmp_path / "out")
        assert done.stdout.startswith(f"{tmp_path / 'out'}: {said}"), done.output


def test_a_study_of_simulated_heads_says_so(study, tmp_path):
    simulation = {"training": {"utrecht_philips_3t": 2}, "test": {"utrecht_philips_3t": 2}}
    cohort = {"source": "simulated", "folder": "nowhere", "simulation": simulation}
    write_study(study.model_copy(update={"cohort": CohortSettings(**cohort)}))
    scan = write_scan(tmp_path / "scan.nii.gz")
    done = ask("--flair", scan, "--study", study.name, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"study {study.name} were trained on simulated heads only" in done.stderr
    assert f"model flair of study {study.name}, given FLAIR" in done.stderr
    assert "simulated heads only" in (tmp_path / "out/report.html").read_text()


def test_nothing_given_says_what_to_give():
    refused = ask()
    assert refused.exit_code == 2
    assert "--flair" in refused.stderr
