"""A folder's people as jobs: the same files as without, and what fails is named."""

from __future__ import annotations

import json
import pickle

import pytest
from typer.testing import CliRunner

from tests.predict import conftest
from wmh.cli import app
from wmh.pipeline import people
from wmh.pipeline.driver import RunError
from wmh.predict.folder import predict_folder

trained, study = conftest.trained, conftest.study  # fixtures of a tiny study


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A CSV table of three people, named relative to the folder one is in; the second is broken."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 3):
        conftest.write_scan(tmp_path / f"{number}.nii.gz", voxel=(1.5, 1.5, 3.0 + number / 10))
    (tmp_path / "2.nii.gz").write_bytes(b"no image")
    path = tmp_path / "people.csv"
    path.write_text("id,flair\n" + "".join(f"{n},{n}.nii.gz\n" for n in (1, 2, 3)))
    return path


@pytest.fixture
def profile(tmp_path):
    """A profile of one core here."""
    folder = tmp_path / "profile"
    folder.mkdir()
    (folder / "config.yaml").write_text("cores: 1\nkeep-going: true\n")
    return folder


def here(monkeypatch, parts_that_fail=()):
    """Jobs run in this process, one after the other, each on one core."""
    monkeypatch.setenv("WMH_CORES", "1")  # the last bits depend on how many threads share the sums

    def run(what, again, command, folder, log, lock):
        with monkeypatch.context() as patch:
            for part in json.loads((folder / people.TASK).read_text())["parts"]:
                patch.chdir(folder)
                if part in parts_that_fail:
                    raise RunError(f"{what}: part {part}")
                people.run_job(part)

    monkeypatch.setattr(people, "run_snakemake", run)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_jobs_leave_the_bytes_of_one_command(study, table, profile, tmp_path, monkeypatch):
    here(monkeypatch)
    monkeypatch.setattr(people, "load_study", lambda name: study)
    alone = predict_folder(study, table, tmp_path / "alone", jobs=1)
    done = people.predict_on_cluster(study, table, tmp_path / "jobs", profile, people_a_job=2)
    assert [one.subject for one in done if one.problem] == ["2"]
    assert [one.problem for one in done] == [one.problem for one in alone]
    assert files_of(tmp_path / "jobs") == files_of(tmp_path / "alone")


def test_after_a_failure_the_same_command_goes_on(study, table, profile, tmp_path, monkeypatch):
    monkeypatch.setattr(people, "load_study", lambda name: study)
    here(monkeypatch, parts_that_fail=["3_to_3"])
    with pytest.raises(RunError, match="3_to_3"):
        people.predict_on_cluster(study, table, tmp_path / "out", profile, people_a_job=2)
    assert not (tmp_path / "out/participants_burden.tsv").exists()
    here(monkeypatch)
    done = people.predict_on_cluster(study, table, tmp_path / "out", profile, people_a_job=2)
    assert [(one.kept, one.problem is None) for one in done] == [
        (True, True),
        (False, False),
        (False, True),
    ]


def test_people_who_came_meanwhile_are_not_told_as_others(study, table, profile, monkeypatch):
    def run(what, again, command, folder, log, lock):
        (folder / "1_to_3.done").write_bytes(pickle.dumps([]))

    monkeypatch.setattr(people, "run_snakemake", run)
    with pytest.raises(RunError, match="Run the same command again"):
        people.predict_on_cluster(None, table, table.with_name("out"), profile, people_a_job=9)


def test_snakemake_runs_the_jobs_and_the_command_tells_of_all(table, profile, tmp_path):
    """For real, of one who is broken: networks are read, but nobody has to be predicted."""
    table.write_text("id,flair\n2,2.nii.gz\n")
    out = tmp_path / "a folder"
    given = ["predict", str(table), "--out", str(out), "--profile", str(profile)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 1
    assert "1 left out" in done.output and "not a NIfTI image" in done.output
    assert not (out / ".jobs").exists()
    assert "2.nii.gz" in (out / "left_out.tsv").read_text()
