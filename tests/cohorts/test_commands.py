"""The commands that fetch, check and simulate, as a user types them."""

from __future__ import annotations

import errno
import json

import pytest
from typer.testing import CliRunner

from tests.cohorts.scans import lesions, save, save_subject
from tests.cohorts.test_challenge import LIST, PUBLISHED, dataverse
from wmh.cli import app, of_the_machine
from wmh.cohorts import challenge


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def tree(tmp_path):
    subject = save_subject(tmp_path / "tree/training/Utrecht/0")
    save(subject / "regions.nii.gz", lesions())
    return tmp_path / "tree"


def test_check_ends_with_0_only_when_all_is_usable(tree):
    assert run("check", tree).exit_code == 0
    (tree / "training/Utrecht/0/pre/T1.nii.gz").write_bytes(b"")
    result = run("check", tree)
    assert result.exit_code == 1
    assert "the file is empty (0 bytes). Copy or download it again" in result.stdout


def test_check_prints_json_alone(tree):
    assert json.loads(run("check", tree, "--json").stdout)["usable"] is True


def test_fetch_challenge_asks_for_the_citation_and_says_what_is_missing(
    server, tmp_path, monkeypatch
):
    dataverse(server)
    server.pages[LIST].statuses.clear()
    defaults = challenge.fetch_challenge.__defaults__
    changed = tuple(server.url if value == challenge.SERVER else value for value in defaults)
    monkeypatch.setattr(challenge.fetch_challenge, "__defaults__", changed)
    result = run("fetch", "challenge", "--split", "training", "--dest", tmp_path)
    assert "CC BY-NC 4.0" in result.stdout and "Please cite" in result.stdout
    assert "5 files fetched, 0 were there" in result.stdout
    assert "59 of the challenge's subjects lack files: training/" in result.stdout
    assert result.exit_code == 1
    assert (tmp_path / PUBLISHED[0]).is_file()


@pytest.mark.shared
def test_fetch_atlas_from_a_mirror_named_by_the_environment(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("WMH_MIRROR", str(shared / "mirror"))
    result = run("fetch", "atlas", "--dest", tmp_path)
    assert result.exit_code == 0
    assert "13 files fetched, 0 were there" in result.stdout
    assert "has no published labels of 164 subjects" in result.stdout


def test_simulate_refuses_fewer_subjects_than_there_are_places_for(tmp_path):
    result = run("simulate", tmp_path / "cohort", "--subjects", 7)
    assert result.exit_code == 2
    assert "--subjects" in result.stderr and "8" in result.stderr
    assert not (tmp_path / "cohort").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), "out/x: the disk is full"),
        (MemoryError(), "not enough memory"),
        (
            ImportError("libtorch.so: failed to map segment from shared object"),
            "not enough memory",
        ),
        (ImportError("No module named 'x'"), None),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied."),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xx"), "xx: File name too long."),
        (RuntimeError("a fault of the program"), None),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, words):
    said = of_the_machine(error)
    assert said is None if words is None else words in said and "\n" not in said
