"""Which code made something."""

import platform
import subprocess
from importlib.metadata import version

import pytest

from wmh import provenance
from wmh.provenance import commit_here, versions_here
from wmh.study import StudyError


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def git(folder, *words: str) -> str:
    who = ("-c", "user.name=Someone", "-c", "user.email=someone@example.org")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_commit_and_whether_files_differ_from_it(project):
    git(project, "init", "-q")
    (project / "code.py").write_text("one")
    git(project, "add", "code.py")
    git(project, "commit", "-q", "-m", "one")
    commit = git(project, "rev-parse", "HEAD")
    assert commit_here() == {"commit": commit, "dirty": False}
    (project / "code.py").write_text("two")
    assert commit_here() == {"commit": commit, "dirty": True}


def test_outside_a_checkout_there_is_no_commit(project):
    assert commit_here() == {"commit": None, "dirty": None}


def test_a_package_that_was_installed_somewhere_needs_no_checkout(monkeypatch):
    def no_project():
        raise StudyError("no folder studies/ here or above")

    monkeypatch.setattr(provenance, "project_root", no_project)
    assert commit_here() == {"commit": None, "dirty": None}


def test_without_git_there_is_no_commit(project, monkeypatch):
    git(project, "init", "-q")
    monkeypatch.setenv("PATH", str(project))
    assert commit_here() == {"commit": None, "dirty": None}


def test_versions_are_those_of_python_the_package_and_what_it_needs():
    versions = versions_here()
    assert versions["python"] == platform.python_version()
    for name in ("wmh", "torch", "segmentation-models-pytorch"):
        assert versions[name] == version(name)


def test_a_package_that_is_not_here_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance.metadata, "requires", lambda _: ["numpy", "never-installed>=1"])
    assert set(versions_here()) == {"python", "wmh", "numpy"}
