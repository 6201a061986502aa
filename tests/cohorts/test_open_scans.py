"""Openly licensed scans: fetched, laid out on one grid, and listed for a study."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.cohorts.scans import SHAPE, head, lesions, oblique, save
from wmh.cli import app
from wmh.cohorts import open_scans
from wmh.cohorts.download import checksum_of
from wmh.cohorts.tables import find_csv
from wmh.images import load_image, load_labels, same_grid

PEOPLE = ("ms01", "ms02", "sv252")
PLACES = {
    "ms01": "open_ms_data/patient01",
    "ms02": "open_ms_data/patient02",
    "sv252": "sim_vent_wmh_seg/subj_104252",
}


def run(mirror: object, dest: object):
    return CliRunner().invoke(app, ["fetch", "open", "--mirror", str(mirror), "--dest", str(dest)])


def know(mirror: Path, table: Path) -> None:
    """Make a table of facts of the files in a mirror, in the form of the project's own."""
    rows = []
    for person, place in PLACES.items():
        for image in open_scans.IMAGES:
            content = (mirror / place / f"{image}.nii.gz").read_bytes()
            blob = hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()
            about = "31,F" if person == "ms01" else ","
            rows.append(f"{person},{image},{place}/{image}.nii.gz,{blob},{about}\n")
    table.write_text("# made up\nid,image,path,git_blob,age,sex\n" + "".join(rows))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Three people as their repositories store them, and a table that knows just these."""
    mask = (lesions() == 1).astype(np.float32)
    for person, place in PLACES.items():
        t1 = head(kind="t1")
        save(tmp_path / "mirror" / place / "FLAIR.nii.gz", head())
        if person == "sv252":  # back to front, under a header that does not say so
            t1 = t1[:, ::-1].astype(np.uint16)
        save(tmp_path / "mirror" / place / "T1.nii.gz", t1)
        save(
            tmp_path / "mirror" / place / "lesions.nii.gz", mask * (255 if person == "ms02" else 1)
        )
    know(tmp_path / "mirror", tmp_path / "facts.csv")
    monkeypatch.setattr(open_scans, "FACTS", tmp_path / "facts.csv")
    return tmp_path / "mirror"


def test_a_study_reads_who_was_fetched(mirror, tmp_path):
    folder = tmp_path / "sim_vent_wmh_seg"  # named like a data set, which must not matter
    result = run(mirror, folder)
    assert result.exit_code == 0, result.output
    assert "CC BY" in result.stdout and "MIT" in result.stdout and "Lesjak" in result.stdout
    assert "9 files fetched" in result.stdout and "3 people are complete" in result.stdout
    found = find_csv(folder / "subjects.csv")
    assert [one.subject.id for one in found] == list(PEOPLE)
    assert not any(one.problems for one in found)
    assert {one.subject.split for one in found} == {"training"}
    assert found[2].subject.scanner == "sim_vent_wmh_seg"
    table = pd.read_csv(folder / "subjects.csv", index_col="id")
    assert table.loc["ms01", ["age", "sex"]].tolist() == [31, "F"]
    assert table.loc["sv252", ["age", "sex"]].isna().all()
    for one in found:
        flair, t1 = load_image(one.subject.flair), load_image(one.subject.t1)
        mask = load_labels(one.subject.lesions, allowed={0, 1})
        assert same_grid(t1, flair) and same_grid(mask, flair)
        np.testing.assert_array_equal(mask.data, lesions() == 1)
        np.testing.assert_allclose(t1.data, head(kind="t1"), atol=1)
        assert nib.load(one.subject.lesions).get_data_dtype() == np.uint8


def test_a_second_run_fetches_and_writes_nothing(mirror, tmp_path):
    run(mirror, tmp_path / "open")
    images = sorted((tmp_path / "open").rglob("*.nii.gz"))
    before = {path: path.stat().st_mtime_ns for path in images}
    assert len(before) == 18
    result = run(tmp_path / "nothing", tmp_path / "open")
    assert "0 files fetched, 9 were there" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_who_lacks_a_file_is_named_and_left_out(mirror, tmp_path):
    (mirror / PLACES["ms02"] / "lesions.nii.gz").unlink()
    result = run(mirror, tmp_path / "open")
    assert result.exit_code == 0
    assert "1 of 3 people lack files: ms02" in result.stdout
    assert [one.subject.id for one in find_csv(tmp_path / "open/subjects.csv")] == ["ms01", "sv252"]
    assert not (tmp_path / "open/ms02").exists()


def test_nobody_complete_ends_with_1_and_no_table(mirror, tmp_path):
    result = run(tmp_path / "nothing", tmp_path / "open")
    assert result.exit_code == 1
    assert "3 of 3 people lack files" in result.stdout
    assert not (tmp_path / "open/subjects.csv").exists()


def test_scans_that_are_not_as_published_are_refused(mirror, server, tmp_path):
    for path in mirror.rglob("*.gz"):
        server.put(f"/{path.relative_to(mirror).as_posix()}", path.read_bytes())
    assert run(server.url, tmp_path / "open").exit_code == 0
    spoilt = mirror / PLACES["ms01"] / "T1.nii.gz"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"x")
    refused = run(mirror, tmp_path / "other")
    assert re.search(
        r"ms_data/patient01/T1.nii.gz: its checksum is gitblob:", str(refused.exception)
    )


def test_masks_and_t1_on_another_grid_come_to_that_of_the_flair(mirror, tmp_path):
    moved = oblique()
    moved[:, 3] += moved[:, 0] * 2  # two voxels further along the first axis
    for image, data in (("T1", head(kind="t1")), ("lesions", (lesions() == 1).astype(np.uint8))):
        save(mirror / PLACES["ms01"] / f"{image}.nii.gz", data, moved)
    know(mirror, open_scans.FACTS)
    run(mirror, tmp_path / "open")
    mask = load_labels(tmp_path / "open/ms01/lesions.nii.gz")
    assert mask.data.shape == SHAPE
    np.testing.assert_array_equal(mask.data[2:], (lesions() == 1)[:-2])


def test_the_table_knows_35_people_pinned_to_commits(tmp_path, monkeypatch):
    asked = []

    def nothing_there(files, *_, **__):
        asked.extend(files)
        return open_scans.Fetched((), (), tuple(tmp_path / "original" / f.path for f in files))

    monkeypatch.setattr(open_scans, "fetch", nothing_there)
    open_scans.fetch_open_scans(tmp_path)
    assert len(asked) == 105 and len({file.path for file in asked}) == 105
    assert all(re.fullmatch("gitblob:[0-9a-f]{40}", file.checksum) for file in asked)
    assert all(re.search("github.*/[0-9a-f]{40}/.*nii.gz", file.url) for file in asked)
    assert len(open_scans.known_people(tmp_path)) == 35


@pytest.mark.shared
def test_a_real_scan_comes_out_as_the_one_at_hand(shared, mirror, tmp_path):
    for image in open_scans.IMAGES:
        path = shared / "real/sv252" / f"{image}.nii.gz"
        data, affine = np.asanyarray(nib.load(path).dataobj), nib.load(path).affine
        data = data[:, ::-1].astype(np.uint16) if image == "T1" else data
        nib.save(nib.Nifti1Image(data, affine), mirror / PLACES["sv252"] / path.name)
    know(mirror, open_scans.FACTS)
    run(mirror, tmp_path / "open")
    for image in open_scans.IMAGES:
        mine = load_image(tmp_path / f"open/sv252/{image}.nii.gz")
        expected = load_image(shared / f"real/sv252/{image}.nii.gz")
        assert same_grid(mine, expected)
        np.testing.assert_array_equal(mine.data, expected.data)


@pytest.mark.shared
def test_a_published_file_has_the_git_id_that_the_table_says(shared):
    facts = pd.read_csv(open_scans.FACTS, comment="#").set_index(["id", "image"])
    for person in ("sv074", "sv252", "sv465", "sv755", "sv911"):
        found = checksum_of(shared / "real" / person / "lesions.nii.gz", "gitblob")
        assert found == f"gitblob:{facts.loc[(person, 'lesions'), 'git_blob']}"
