"""Files appear completely, in sets, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wmh.files import all_or_nothing, complete, fingerprint


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new/table.csv"
    with complete(path) as part:
        part.write_text("first")
        assert part.suffix == ".csv"
        assert not path.exists()

    def fail() -> None:
        with complete(path) as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [
        ("table.csv", "first")
    ]


def test_a_fingerprint_follows_contents_and_words_alone(tmp_path):
    def prints(folder: str, content: str, *words: str) -> str:
        path = tmp_path / folder / "a.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return fingerprint([path], *words)

    first = prints("here", "code", "seed", "0")
    assert prints("there", "code", "seed", "0") == first
    assert len({first, prints("here", "code", "seed0"), prints("here", "Code", "seed", "0")}) == 3


def test_what_a_killed_process_left_goes_before_the_next(tmp_path):
    left = tmp_path / "out/.sub-1"
    left.mkdir(parents=True)
    (left / "half").touch()
    with all_or_nothing(tmp_path / "out", "sub-1") as fresh:
        (fresh / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_two_that_write_at_once_take_turns(tmp_path):
    def write_one(content: str) -> None:
        with all_or_nothing(tmp_path / "out") as fresh:
            (fresh / "a").write_text(content)

    with ThreadPoolExecutor(1) as pool:
        with all_or_nothing(tmp_path / "out") as fresh:
            (fresh / "a").write_text("first")
            other = pool.submit(write_one, "second")
            with pytest.raises(TimeoutError):
                other.result(timeout=0.3)
            assert (fresh / "a").read_text() == "first"
        other.result()
    assert [(file.name, file.read_text()) for file in (tmp_path / "out").iterdir()] == [
        ("a", "second")
    ]


def test_all_files_of_a_set_appear_or_none(tmp_path):
    def write_two(folder: Path, full: bool) -> None:
        with all_or_nothing(folder) as fresh:
            (fresh / "one").write_text("new")
            if full:
                raise OSError(28, "No space left on device")
            (fresh / "deep").mkdir()
            (fresh / "deep/two").write_text("new")

    with pytest.raises(OSError, match="No space left"):
        write_two(tmp_path / "out", full=True)
    assert not list(tmp_path.iterdir())
    write_two(tmp_path / "out", full=False)
    (tmp_path / "out/one").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_two(tmp_path / "out", full=True)
    assert (tmp_path / "out/one").read_text() == "old"
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == ["one", "two"]
