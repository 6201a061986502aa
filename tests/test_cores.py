import os

import pytest

from wmh.cores import cores_here
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
