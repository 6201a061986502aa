"""The label maps of whole heads, from mirrors."""

from __future__ import annotations

import hashlib

import pytest
from typer.testing import CliRunner

from wmh.cli import app
from wmh.cohorts import heads

NAMES = [f"training_seg_{k:02}.nii.gz" for k in range(1, 21)]


def run(*words: object):
    return CliRunner().invoke(app, ["fetch", "heads", *map(str, words)])


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror of twenty small files, and a table that knows these."""
    folder = tmp_path / "mirror/synthseg"
    folder.mkdir(parents=True)
    rows = []
    for name in NAMES:
        (folder / name).write_bytes(name.encode() * 100)
        rows.append(f"synthseg/{name},{hashlib.sha256(name.encode() * 100).hexdigest()}\n")
    table = tmp_path / "sums.csv"
    table.write_text("path,sha256\n" + "".join(rows))
    monkeypatch.setattr(heads, "CHECKSUMS", table)
    return folder.parent


def test_twenty_heads_come_once_from_a_folder(mirror, tmp_path):
    result = run("--mirror", mirror, "--dest", tmp_path / "heads")
    assert result.exit_code == 0
    assert "Apache 2.0" in result.stdout and "Billot" in result.stdout
    assert "20 files fetched, 0 were there" in result.stdout
    assert sorted(path.name for path in (tmp_path / "heads").iterdir()) == NAMES
    again = run("--mirror", mirror, "--dest", tmp_path / "heads")
    assert "0 files fetched, 20 were there" in again.stdout


def test_heads_come_from_an_address_in_the_environment(mirror, server, tmp_path):
    for path in (mirror / "synthseg").iterdir():
        server.put(f"/m/synthseg/{path.name}", path.read_bytes())
    words = ["fetch", "heads", "--dest", str(tmp_path / "heads")]
    assert CliRunner().invoke(app, words, env={"WMH_MIRROR": f"{server.url}/m"}).exit_code == 0
    assert (tmp_path / "heads" / NAMES[7]).read_bytes() == NAMES[7].encode() * 100


@pytest.mark.parametrize(("spoil", "message"), [("absent", "not there"), ("other", "its checksum")])
def test_a_head_that_is_absent_or_another_is_an_error(mirror, tmp_path, spoil, message):
    path = mirror / "synthseg" / NAMES[4]
    path.unlink() if spoil == "absent" else path.write_bytes(b"other")
    result = run("--mirror", mirror, "--dest", tmp_path / "heads")
    assert result.exit_code != 0
    assert "1 of 20 files" in str(result.exception) and message in str(result.exception)
    assert not (tmp_path / "heads" / NAMES[4]).exists()


def test_upstream_every_head_is_pinned_to_its_commit_and_checksum(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(heads, "fetch", lambda files, *_, **__: asked.extend(files))
    heads.fetch_heads(tmp_path)
    folder = (
        "https://raw.githubusercontent.com/BBillot/SynthSeg/"
        "66342c1f05e520f3729a6d7ca1042eb7f01b6266/data/training_label_maps/"
    )
    assert [file.url for file in asked] == [folder + name for name in NAMES]
    assert len({file.checksum for file in asked}) == 20


@pytest.mark.shared
def test_the_whole_mirror_passes(shared, tmp_path):
    assert len(heads.fetch_heads(tmp_path, str(shared / "mirror")).new) == 20
