"""A study on a cluster: its profile speaks of rules there are, and the command passes it on."""

from __future__ import annotations

import re

import pytest
import yaml
from typer.testing import CliRunner

from wmh.cli import app
from wmh.pipeline import driver, people
from wmh.study import load_study, project_root

PROFILE = project_root() / "profiles" / "slurm"


def test_the_profile_names_rules_of_the_snakefile_and_gives_every_job_time_and_memory():
    settings = yaml.safe_load((PROFILE / "config.yaml").read_text())
    text = (project_root() / "Snakefile").read_text() + people.SNAKEFILE.read_text()
    rules = re.findall(r"^rule (\w+):", text, re.MULTILINE)
    assert set(settings["set-resources"]) <= set(rules)
    assert {"mem_mb", "runtime"} <= set(settings["default-resources"])


@pytest.mark.parametrize("profile", [None, PROFILE])
def test_cores_and_cards_of_this_machine_count_where_no_profile_decides(profile, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,3")
    study = load_study("demo")
    command = driver._snakemake(study, profile)
    assert ("--cores" in command) == (profile is None)
    assert ("accelerator=3" in command) == (profile is None)
    assert ("--profile" in command) == (profile is not None)


def test_a_folder_that_is_no_profile_is_named(tmp_path):
    done = CliRunner().invoke(app, ["run", "smoke", "--profile", str(tmp_path)])

    remedy = "not a Snakemake profile. Give a folder that holds a config.yaml, such as "
    remedy += "profiles/slurm"
    assert str(done.exception) == f"{tmp_path}: {remedy}"


TIME = "2026-01-01T07:20:09"
ENDED = f"slurmstepd-n1: error: *** JOB 16 ON n1 CANCELLED AT {TIME} DUE TO TIME LIMIT ***"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "wmh: notebook 03_train_lesions flair failed: KeyError: x. Log: a.log",
            "notebook 03_train_lesions flair failed: KeyError: x. Log: a.log",
        ),
        (
            ENDED,
            f"study demo failed: JOB 16 ON n1 CANCELLED AT {TIME} DUE TO TIME LIMIT. Log: {{job}}",
        ),
    ],
)
def test_why_a_job_ended_is_read_from_the_log_that_snakemake_names(said, told, tmp_path):
    log, job = tmp_path / "snakemake.log", tmp_path / "16.log"
    log.write_text(f"WorkflowError:\n    log: {job} (check log file(s) for error details)\n")
    job.write_text(f"host: n1\n{said}\nWorkflowError:\n")
    assert driver._what_failed("study demo", log) == told.format(job=job)


def test_every_job_that_failed_is_named_with_its_log(tmp_path):
    logs = [tmp_path / name for name in ("a job.log", "2.log")]
    logs[0].write_text(
        "Traceback:\nwmh: people 1 to 200 failed: MemoryError: no more\nWorkflowError:\n"
    )
    logs[1].write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.\n")
    log = tmp_path / "snakemake.log"
    log.write_text("".join(f"    log: {path} (check log file(s) for details)\n" for path in logs))
    first, second = driver._what_failed("predicting F", log).splitlines()
    assert first == f"people 1 to 200 failed: MemoryError: no more. Log: {logs[0]}"
    assert second.startswith("predicting F failed: ") and second.endswith(
        f" oom_kill event. Log: {logs[1]}"
    )
