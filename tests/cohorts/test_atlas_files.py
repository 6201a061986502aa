"""The published atlas files, from mirrors good and bad."""

from __future__ import annotations

import hashlib
import re

import nibabel as nib
import numpy as np
import pytest

from wmh.cohorts import atlas_files
from wmh.cohorts.atlas_files import fetch_atlas, published_regions
from wmh.cohorts.download_source import DownloadError, Patience
from wmh.cohorts.repositories import REPOSITORIES

HURRY = Patience(attempts=2, first_wait=0.01, longest_wait=0.02, timeout=1)
LABELS = "eve_atlas/labels.nii.gz"


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """A mirror of one pinned file and one subject's labels, and a table that knows just these."""
    mirror = tmp_path / "mirror"
    (mirror / "eve_atlas").mkdir(parents=True)
    (mirror / LABELS).write_bytes(b"labels" * 500)
    digest = hashlib.sha256((mirror / LABELS).read_bytes()).hexdigest()
    table = tmp_path / "sums.csv"
    table.write_text(f"path,sha256\n{LABELS},{digest}\n")
    monkeypatch.setattr(atlas_files, "CHECKSUMS", table)
    write_regions(mirror / published_regions("0"), (240, 240, 48), (0.958, 0.958, 3.0))
    return mirror


def write_regions(path, shape, voxel_size, label=1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.full(shape, label, np.uint8), np.diag([*voxel_size, 1]))
    nib.save(image, path)


def serve(server, mirror) -> str:
    for path in mirror.rglob("*.gz"):
        server.put(f"/m/{path.relative_to(mirror).as_posix()}", path.read_bytes())
    return f"{server.url}/m/"


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_a_mirror_gives_the_files_and_says_what_it_lacks(small_world, server, tmp_path, kind):
    mirror = serve(server, small_world) if kind == "address" else str(small_world)
    fetched = fetch_atlas(tmp_path / "here", mirror, patience=HURRY)
    names = {path.relative_to(tmp_path / "here").as_posix() for path in fetched.new}
    assert names == {LABELS, published_regions("0")}
    assert len(fetched.absent) == 169
    assert (tmp_path / "here" / LABELS).read_bytes() == (small_world / LABELS).read_bytes()


def test_a_mirror_passes_the_same_checks(small_world, tmp_path):
    (small_world / LABELS).write_bytes(b"other" * 600)
    with pytest.raises(DownloadError, match=f"{LABELS}: its checksum is"):
        fetch_atlas(tmp_path / "here", str(small_world), patience=HURRY)
    assert not (tmp_path / "here" / LABELS).exists()


def test_a_mirror_must_hold_the_atlas(small_world, tmp_path):
    (small_world / LABELS).unlink()
    with pytest.raises(DownloadError, match=f"{LABELS}: not there"):
        fetch_atlas(tmp_path / "here", str(small_world), patience=HURRY)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("grid", "is not that of subject 0"),
        ("size", "is not that of subject 0"),
        ("label", "are not the refined regions"),
        ("cut", "it is no whole NIfTI image"),
        ("page", "it is no whole NIfTI image"),
    ],
)
def test_labels_without_a_known_checksum_must_fit_their_subject(
    small_world, tmp_path, spoil, expected
):
    path = small_world / published_regions("0")
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif spoil == "page":
        path.write_bytes(b"<html>not found</html>")
    else:
        shape = (240, 240, 47 if spoil == "grid" else 48)
        size = (0.958, 0.958, 1.0 if spoil == "size" else 3.0)
        write_regions(path, shape, size, label=37 if spoil == "label" else 1)
    with pytest.raises(DownloadError, match=expected):
        fetch_atlas(tmp_path / "here", str(small_world), patience=HURRY)
    assert not (tmp_path / "here" / published_regions("0")).exists()


def test_without_a_mirror_every_file_is_pinned_to_a_commit_and_required():
    files = atlas_files.atlas_files()
    assert len(files) == 7 + 170
    assert sum(file.checksum is not None for file in files) == 13
    assert not any(file.optional for file in files)
    for file in files:
        assert file.checksum or file.check
        folder, _, name = file.path.partition("/")
        assert re.search(r"/[0-9a-f]{40}$", REPOSITORIES[folder])
        assert file.url == f"https://raw.githubusercontent.com/{REPOSITORIES[folder]}/{name}"


@pytest.mark.shared
def test_the_whole_mirror_passes(shared, tmp_path):
    fetched = fetch_atlas(tmp_path, str(shared / "mirror"))
    assert len(fetched.new) == 13 and len(fetched.absent) == 164
    again = fetch_atlas(tmp_path, str(shared / "mirror"))
    assert len(again.kept) == 13 and again.new == ()


def test_published_labels_are_those_that_were_fetched(small_world, tmp_path):
    fetch_atlas(tmp_path / "atlas", str(small_world))
    found = atlas_files.published_labels(tmp_path / "atlas")
    assert found == {"0": tmp_path / "atlas" / published_regions("0")}
    assert atlas_files.published_labels(tmp_path / "nothing") == {}
