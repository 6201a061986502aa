"""A training that is killed goes on, and ends as if nothing had happened."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning import models
from wmh.learning.training import train

STEPS = 40
LEARN, VALIDATE = tiny_slices(0), tiny_slices(1, 6)


def longer():
    return tiny_study(models={"flair": {"task": "lesions", "inputs": "flair", "steps": STEPS}})


def train_until_killed() -> None:
    """What the process does that is killed; should the kill come late, it waits for it."""

    def wait_at_the_end(history: pd.DataFrame) -> None:
        if history["step"].iloc[-1] == STEPS:
            time.sleep(60)

    train(longer(), "flair", LEARN, VALIDATE, wait_at_the_end)


def test_a_killed_training_ends_with_the_same_bytes(study, monkeypatch, capsys):
    monkeypatch.setattr(models, "commit_here", dict)  # files may change while this runs
    folder = study.model_folder("flair")

    def train_to_the_end() -> tuple[bytes, pd.DataFrame]:
        checkpoint = train(longer(), "flair", LEARN, VALIDATE)
        return checkpoint.read_bytes(), pd.read_csv(folder / "history.csv").drop(columns="seconds")

    whole, curve = train_to_the_end()
    (folder / "checkpoint.pt").unlink()
    command = "from tests.learning.test_killed import train_until_killed as go; go()"
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (folder / "resume.pt").exists():
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "checkpoint.pt").exists()
    capsys.readouterr()
    again, same_curve = train_to_the_end()
    assert "Continuing from step" in capsys.readouterr().out
    assert again == whole
    pd.testing.assert_frame_equal(same_curve, curve)
