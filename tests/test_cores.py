import os
import subprocess
import sys
import time

import pytest

from wmh.cores import cores_here
from wmh.pipeline.watch import is_running
from wmh.study import StudyError


def test_a_stage_uses_the_cores_it_was_given_and_without_a_word_all_there_are(monkeypatch):
    monkeypatch.setenv("WMH_CORES", "5")
    assert cores_here() == 5
    monkeypatch.delenv("WMH_CORES")
    assert cores_here() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("given", ["0", "-1", "all"])
def test_what_is_no_number_of_cores_is_refused(monkeypatch, given):
    monkeypatch.setenv("WMH_CORES", given)
    with pytest.raises(StudyError, match=f"WMH_CORES is '{given}'. Set it to a number of cores"):
        cores_here()


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_no_worker_outlives_a_parent_that_was_killed(start):
    code = (
        "import os, time\n"
        "from wmh.cores import processes\n"
        f"pool = processes(2, {start!r})\n"
        "print(*(pool.submit(os.getpid).result() for _ in range(2)), flush=True)\n"
        "pool.submit(time.sleep, 60).result()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert all(map(is_running, workers))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 10
    while any(map(is_running, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)
