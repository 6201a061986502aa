"""A study that this machine cannot run is refused at once, in one line, with what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wmh import ready
from wmh.ready import raise_unless_ready
from wmh.study import StudyError, load_study, project_root


@pytest.fixture
def change(tmp_path, monkeypatch):
    """A function that makes the smoke study of an empty project with other settings."""
    monkeypatch.setenv("WMH_ROOT", str(project_root()))
    smoke = load_study("smoke")
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))

    def change(**settings):
        groups = {
            group: getattr(smoke, group).model_copy(update=changed)
            for group, changed in settings.items()
        }
        return smoke.model_copy(update=groups)

    return change


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"cohort": {"source": "challenge", "folder": Path("data/there"), "simulation": None}},
            "cohort.folder: data/there does not exist; `wmh fetch challenge` brings it",
        ),
        (
            {"cohort": {"source": "csv", "folder": Path("mine.csv"), "simulation": None}},
            "cohort.folder: mine.csv does not exist",
        ),
        (
            {"cohort": {"further": Path("data/open_scans/subjects.csv")}},
            "cohort.further: data/open_scans/subjects.csv does not exist; `wmh fetch "
            "open` brings it",
        ),
        (
            {"regions": {"atlas": "jhu"}},
            "regions.atlas_folder: data/atlas does not exist; `wmh fetch atlas` brings it",
        ),
    ],
)
def test_what_is_not_there_is_named(change, settings, message, tmp_path):
    study = change(**settings)
    with pytest.raises(StudyError) as caught:
        raise_unless_ready(study)
    assert str(caught.value) == f"study smoke: {message}"
    (tmp_path / message.split(": ")[1].split()[0]).mkdir(parents=True)
    raise_unless_ready(study)


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda"])
def test_a_gpu_is_looked_for_where_one_is_asked_for(change, device, monkeypatch, tmp_path):
    monkeypatch.setattr(ready, "DEVICES", tmp_path)
    monkeypatch.setattr(ready, "gpus_here", list)
    study = change(compute={"device": device})
    if device == "cuda":
        with pytest.raises(StudyError, match=r"device is cuda, but this machine has no GPU; set"):
            raise_unless_ready(study)
        raise_unless_ready(study, gpu=False)
        (tmp_path / "nvidia0").touch()
    raise_unless_ready(study)


def test_a_study_to_start_from_that_is_not_there_is_named(change):
    with pytest.raises(StudyError, match=r"training\.start_from: .*nosuch\.yaml: no such study"):
        raise_unless_ready(change(training={"start_from": "nosuch"}, cohort={}))
    raise_unless_ready(change(training={"start_from": "general"}))


@pytest.mark.parametrize("command", [["predict", "data", "--out", "out", "--study"], ["run"]])
def test_a_command_that_lacks_something_ends_in_one_line_before_it_begins(tmp_path, command):
    for name in ("studies", "notebooks"):
        shutil.copytree(project_root() / name, tmp_path / name)
    hide = "from wmh import cli, ready; ready.DEVICES, ready.gpus_here = ready.Path('x'), list"
    code = f"import sys; {hide}; sys.argv = ['wmh', *{command}, 'paper']; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"WMH_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "wmh: study paper: compute.device is cuda, but this machine has no GPU; "
        "set it to auto or cpu\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notebooks", "studies"]
