"""Own scans predicted, as a user types it."""

import shutil

import pytest
from typer.testing import CliRunner

from tests.learning.conftest import write_study
from tests.report.conftest import write_scan
from wmh.cli import app


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
    for said in ("1 subjects predicted, 0 kept", "0 subjects predicted, 1 kept"):
        done = predict(tmp_path / "data")
        assert done.exit_code == 1
        *_, counts, left_out, person = done.stdout.splitlines()
        assert counts == f"{said}: {tmp_path / 'out'}"
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
    assert "not both" in refused.stderr
    assert not (tmp_path / "out").exists()
