"""Watching a stage: its output, its memory, and the end of the run it belongs to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from wmh.pipeline.watch import (
    DRIVER,
    Progress,
    driver_here,
    is_running,
    kill_children,
    memory_of_children_mb,
    name_driver,
)
from wmh.study import project_root

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def gone_within(process: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not is_running(process):
            return True
        time.sleep(0.1)
    return False


def test_a_log_keeps_lines_and_of_a_bar_its_last_state(tmp_path):
    output = Progress(tmp_path / "a.log")
    for piece in ("first\nsec", "ond\n", "\r 0/2", "\r 1/2", "\r 2/2", "\nlast"):
        output.write(piece)
    output.close()
    assert (tmp_path / "a.log").read_text() == "first\nsecond\n 2/2\nlast"


def test_the_last_line_is_at_hand_while_a_bar_moves(tmp_path):
    output = Progress(tmp_path / "a.log")
    output.write("reading\n\r 10%")
    assert output.last == "10%"
    output.write("\r 20%")
    assert output.last == "20%"
    output.write("\n\n")
    assert output.last == "20%"
    output.close()


def test_a_process_that_ended_but_was_not_waited_for_is_gone():
    child = subprocess.Popen(SLEEP)
    assert is_running(child.pid)
    child.kill()
    assert gone_within(child.pid, 5)
    child.wait()
    assert not is_running(child.pid)


def test_the_driver_is_looked_for_on_its_own_machine_only(monkeypatch):
    monkeypatch.delenv(DRIVER, raising=False)
    assert driver_here() is None
    monkeypatch.setenv(DRIVER, name_driver())
    assert driver_here() == os.getpid()
    monkeypatch.setenv(DRIVER, f"another-{name_driver()}")
    assert driver_here() is None


def test_memory_of_children_is_measured():
    code = "x = bytearray(80 * 2**20); print('ready', flush=True); import time; time.sleep(60)"
    before = memory_of_children_mb()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    grown = memory_of_children_mb() - before
    child.kill()
    child.wait()
    child.stdout.close()
    assert 80 <= grown < 130


def test_when_its_driver_is_killed_a_stage_ends_with_all_it_started():
    driver = subprocess.Popen(SLEEP)
    code = (
        "import subprocess, time\n"
        "from wmh.pipeline.watch import Watch\n"
        f"child = subprocess.Popen({SLEEP!r}, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "with Watch(lambda: None): time.sleep(60)\n"
    )
    host = name_driver().rpartition(":")[0]
    environment = os.environ | {DRIVER: f"{host}:{driver.pid}"}
    stage = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    kernel = int(stage.stdout.readline())
    assert is_running(kernel)
    driver.send_signal(signal.SIGKILL)
    assert stage.wait(timeout=20) == 1
    stage.stdout.close()
    assert gone_within(kernel, 5)
    driver.wait()


def test_children_that_are_given_time_wind_up_first(tmp_path):
    """As Snakemake does, which cancels the jobs that it sent to a cluster."""
    left = tmp_path / "cancelled"
    code = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal\n"
        "try:\n"
        "    print(flush=True)\n"
        "    time.sleep(60)\n"
        f"except KeyboardInterrupt: pathlib.Path({str(left)!r}).touch()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        kill_children(patience_seconds=20)
        assert left.exists() and not is_running(child.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so_in_a_line_and_leaves_nobody_behind(tmp_path, number):
    work = f"import subprocess; p = subprocess.Popen({SLEEP!r}, start_new_session=True)"
    snakemake = f"{work}; print(p.pid, flush=True); p.wait()"
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal\n"
        "from wmh import cli\n"
        "from wmh.pipeline import driver\n"
        f"driver._snakemake = lambda study, profile: [sys.executable, '-c', {snakemake!r}]\n"
        "sys.argv = ['wmh', 'run', 'smoke']\n"
        "cli.main()\n"
    )
    for name in ("studies", "notebooks"):
        shutil.copytree(project_root() / name, tmp_path / name)
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"WMH_ROOT": str(tmp_path)},
        text=True,
    )
    run.stdout.readline()
    worker = int(run.stdout.readline())
    run.send_signal(number)
    _, said = run.communicate(timeout=20)
    assert run.returncode == 1
    assert said == (
        f"wmh: study smoke was stopped by {number.name}; "
        "`wmh run smoke` continues where it stopped\n"
    )
    assert gone_within(worker, 5)


@pytest.mark.parametrize("text", ["\r\r\n", "\n", ""])
def test_empty_lines_do_not_replace_the_last(tmp_path, text):
    output = Progress(tmp_path / "a.log")
    output.write("something\n")
    output.write(text)
    assert output.last == "something"
    output.close()
