"""Several GPUs: each stage that computes on one has it to itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from wmh.pipeline import cards
from wmh.pipeline.cards import VISIBLE, card_of_ones_own, cards_here

HOLD = """
from wmh.pipeline.cards import card_of_ones_own
with card_of_ones_own() as card:
    print(card, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def two_cards(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "1,3")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ["0", "1", "2"]),
        ("2", ["2"]),
        ("GPU-a1, GPU-b2", ["GPU-a1", "GPU-b2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cards_are_those_named_or_all_there_are(given, expected, monkeypatch):
    monkeypatch.setattr(cards, "gpus_here", lambda: ["one", "two", "three"])
    monkeypatch.delenv(VISIBLE) if given is None else monkeypatch.setenv(VISIBLE, given)
    assert cards_here() == expected


def test_two_stages_have_different_cards_and_a_third_waits_for_the_first_that_ends():
    third = []

    def wait() -> None:
        with card_of_ones_own() as card:
            third.append(card)

    waiting = threading.Thread(target=wait)
    with card_of_ones_own() as first:
        with card_of_ones_own() as second:
            assert [first, second] == [{VISIBLE: "1"}, {VISIBLE: "3"}]
            waiting.start()
            waiting.join(0.7)
            assert third == []
        waiting.join(5)
        assert third == [second]


def test_a_stage_that_is_killed_frees_its_card():
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdout.readline().strip() == str({VISIBLE: "1"})
    with card_of_ones_own() as other:
        assert other == {VISIBLE: "3"}
    held.kill()
    held.communicate()
    with card_of_ones_own() as freed:
        assert freed == {VISIBLE: "1"}


def test_of_a_single_card_as_a_cluster_gives_its_job_nothing_is_held(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0")
    with card_of_ones_own() as one, card_of_ones_own() as same:
        assert one == same == {}
    assert os.environ[VISIBLE] == "0"
