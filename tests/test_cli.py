"""The command as a whole: what it says of warnings, and how it ends when it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings

import pytest

from wmh import cli
from wmh.pipeline.watch import is_running


def test_a_warning_of_the_package_is_a_line_and_others_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr("sys.argv", ["wmh", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    said = warnings.formatwarning("look", UserWarning, cli.__file__, 7)
    assert said == "wmh: look\n"
    assert "UserWarning: look" in warnings.formatwarning("look", UserWarning, "/torch.py", 7)


def test_a_name_that_is_not_in_utf8_can_be_printed(tmp_path):
    command = [sys.executable, "-m", "wmh.cli", "check", bytes(tmp_path / "x") + b"\xfc"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("wmh: "), done.stderr
    assert "\\udcfc: no such folder or file" in done.stderr


def test_stopped_it_leaves_nothing_half_written_and_no_worker_behind(tmp_path):
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from wmh import cli\n"
        "from wmh.cores import processes\n"
        "from wmh.files import all_or_nothing\n"
        "def work():\n"
        "    with processes(1) as pool, all_or_nothing(Path(sys.argv[1])) as fresh:\n"
        "        (fresh / 'half').touch()\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        waiting = [pool.submit(time.sleep, 60) for _ in range(3)]\n"
        "        waiting[0].result()\n"
        "cli.app = work\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stopped:
        worker = int(stopped.stdout.readline())
        stopped.terminate()
        assert stopped.wait(20) == 128 + signal.SIGTERM, stopped.stderr.read()
    assert not is_running(worker)
    assert list(tmp_path.iterdir()) == []
