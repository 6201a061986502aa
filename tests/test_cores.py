import os

from wmh.cores import cores_here


def test_a_stage_uses_the_cores_it_was_given_and_without_a_word_all_there_are(monkeypatch):
    monkeypatch.setenv("WMH_CORES", "5")
    assert cores_here() == 5
    monkeypatch.delenv("WMH_CORES")
    assert cores_here() == len(os.sched_getaffinity(0))
