"""One environment, told in four files: pyproject.toml, the lock, environment.yml and run_all.sh."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from wmh.study import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE))
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [*PROJECT["dependencies"], *(name for extra in EXTRAS.values() for name in extra)]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


def copy_of_run_all(folder: Path, python: str) -> tuple[Path, Path]:
    """run_all.sh alone in a folder, and a folder with a ``python`` that is this script."""
    script = folder / "run_all.sh"
    script.write_bytes((ROOT / "run_all.sh").read_bytes())
    script.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    tools = folder / "tools"
    tools.mkdir()
    for name in ("python", "python3"):
        (tools / name).write_text(f"#!/bin/sh\n{python}\n")
        (tools / name).chmod(0o755)
    return script, tools


@pytest.mark.parametrize("requirement", DECLARED)
def test_every_declared_package_is_pinned_with_a_hash(requirement):
    name = re.match(r"[\w.-]+", requirement).group().lower()
    assert name in PINS
    block = LOCK.split(f"\n{name}==" if not LOCK.startswith(f"{name}==") else f"{name}==", 1)[1]
    assert "--hash=sha256:" in block.split("# via")[0]


def test_every_exact_pin_is_the_locked_version():
    for requirement in DECLARED:
        if match := re.fullmatch(r"([\w.-]+)==([\w.]+)", requirement):
            assert PINS[match[1].lower()] == match[2]


def test_every_line_of_the_lock_is_a_pin_a_hash_or_a_comment():
    """In particular none is the address of a package index."""
    kinds = r"[\w.\[\]-]+==[\w.+!-]+( ;.*)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|    #( .*)?"
    assert [line for line in LOCK.splitlines() if not re.fullmatch(kinds, line)] == []
    assert "://" not in LOCK


def test_conda_takes_python_and_pip_from_conda_forge_and_all_else_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert [entry.partition("=")[0] for entry in conda] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.lock"]}
    minimum = PROJECT["requires-python"].removeprefix(">=")
    assert conda[0].partition("=")[2].split(".") >= minimum.split(".")


def test_the_package_itself_comes_in_a_second_step_of_conda():
    assert "pip install --no-deps -e ." in (ROOT / "environment.yml").read_text()


def test_help_names_the_three_commands():
    done = run(["./run_all.sh", "--help"])
    assert done.returncode == 0
    for word in ("STUDY", "test", "lab"):
        assert f"./run_all.sh {word} " in done.stdout


def test_an_unknown_option_and_a_second_study_are_refused():
    for arguments in (["--hlep"], ["demo", "smoke"]):
        done = run(["./run_all.sh", *arguments])
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("run_all.sh: ")


def test_an_old_python_is_named_with_the_remedy(tmp_path):
    script, tools = copy_of_run_all(tmp_path, "exit 1")
    done = run([str(script)], PATH=f"{tools}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "python3 is not Python 3.11 or newer" in done.stderr.splitlines()[-1]
    assert not (tmp_path / ".venv" / "installed").exists()


def test_an_installed_environment_is_respected(tmp_path):
    """The active ``python`` has wmh: nothing is set up, and pytest runs in it."""
    script, tools = copy_of_run_all(tmp_path, 'echo "$@"')
    done = run([str(script), "test", "-k", "images"], PATH=f"{tools}:/usr/bin:/bin")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "-m pytest -k images"
    assert not (tmp_path / ".venv").exists()


def test_uv_is_taken_from_the_lock_with_its_hashes():
    command = re.search(r"sed -n '(.+)' requirements.lock", (ROOT / "run_all.sh").read_text())
    block = run(["sed", "-n", command[1], "requirements.lock"]).stdout
    assert block.startswith(f"uv=={PINS['uv']}")
    assert block.count("==") == 1
    assert block.count("--hash=sha256:") >= 10


def test_ci_runs_the_tests_of_the_readme_and_the_smoke_study():
    script = (ROOT / ".ci" / "run").read_text()
    assert script.index("./run_all.sh test") < script.index("./run_all.sh smoke\n")
    assert "./run_all.sh smoke3d\n" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_citation_names_paper_regions_data_and_atlas():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:2506.22041"
    dois = {reference.get("doi") for reference in citation["references"]}
    assert {"10.34894/AECRSD", "10.1016/j.neuroimage.2009.01.002"} <= dois
    assert citation["version"] == PROJECT["version"]


def test_python_keeps_what_it_compiled_even_where_it_is_told_not_to(tmp_path):
    script, tools = copy_of_run_all(tmp_path, 'echo "${PYTHONDONTWRITEBYTECODE-kept}"')
    done = run([str(script), "test"], PATH=f"{tools}:/usr/bin:/bin", PYTHONDONTWRITEBYTECODE="1")
    assert done.stdout.splitlines()[-1] == "kept"
