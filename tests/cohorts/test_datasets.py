"""The atlas, the heads and the open scans, from mirrors good and bad."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.cohorts.scans import SHAPE, head, lesions, oblique, save
from wmh.analysis.participants import read_participants
from wmh.cli import app
from wmh.cohorts import datasets
from wmh.cohorts.cohort import UNDECIDED, of_split, validation_split
from wmh.cohorts.datasets import atlas_files, fetch_atlas, published_labels, published_regions
from wmh.cohorts.fetch import DownloadError, Fetched
from wmh.cohorts.gather import gather_cohort
from wmh.cohorts.sources import decide_splits
from wmh.cohorts.tables import find_csv
from wmh.images import load_image, load_labels, same_grid
from wmh.study import load_study

LABELS = "eve_atlas/labels.nii.gz"
HEADS = [f"training_seg_{k:02}.nii.gz" for k in range(1, 21)]
PEOPLE = ("ms01", "ms02", "sv252")
PLACES = {
    "ms01": "open_ms_data/patient01",
    "ms02": "open_ms_data/patient02",
    "sv252": "sim_vent_wmh_seg/subj_104252",
}


def run(what: str, mirror: object, dest: object):
    command = ["fetch", what, "--mirror", str(mirror), "--dest", str(dest)]
    return CliRunner().invoke(app, command)


@pytest.fixture
def atlas_mirror(tmp_path, monkeypatch):
    """A mirror of one pinned file and one subject's labels, and a table that knows just these."""
    mirror = tmp_path / "mirror"
    (mirror / "eve_atlas").mkdir(parents=True)
    (mirror / LABELS).write_bytes(b"labels" * 500)
    digest = hashlib.sha256((mirror / LABELS).read_bytes()).hexdigest()
    table = tmp_path / "sums.csv"
    table.write_text(f"path,sha256\n{LABELS},{digest}\n")
    monkeypatch.setattr(datasets, "ATLAS_CHECKSUMS", table)
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


@pytest.mark.parametrize("kind", ["folder", "file address", "address"])
def test_a_mirror_gives_the_files_and_says_what_it_lacks(atlas_mirror, server, tmp_path, kind):
    kinds = {"folder": str(atlas_mirror), "file address": atlas_mirror.as_uri()}
    mirror = serve(server, atlas_mirror) if kind == "address" else kinds[kind]
    fetched = fetch_atlas(tmp_path / "here", mirror)
    names = {path.relative_to(tmp_path / "here").as_posix() for path in fetched.new}
    assert names == {LABELS, published_regions("0")}
    assert len(fetched.absent) == 169
    assert (tmp_path / "here" / LABELS).read_bytes() == (atlas_mirror / LABELS).read_bytes()


def test_a_mirror_passes_the_same_checks(atlas_mirror, tmp_path):
    (atlas_mirror / LABELS).write_bytes(b"other" * 600)
    with pytest.raises(DownloadError, match=f"{LABELS}: SHA256 hash"):
        fetch_atlas(tmp_path / "here", str(atlas_mirror))
    assert not (tmp_path / "here" / LABELS).exists()


def test_a_mirror_must_hold_the_atlas(atlas_mirror, tmp_path):
    (atlas_mirror / LABELS).unlink()
    with pytest.raises(DownloadError, match=f"{LABELS}: does not exist"):
        fetch_atlas(tmp_path / "here", str(atlas_mirror))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("grid", "differs from that of subject 0"),
        ("size", "differs from that of subject 0"),
        ("label", "are not those of the refined regions"),
        ("cut", "not a complete NIfTI image"),
        ("page", "not a complete NIfTI image"),
    ],
)
def test_labels_without_a_known_checksum_must_fit_their_subject(
    atlas_mirror, tmp_path, spoil, expected
):
    path = atlas_mirror / published_regions("0")
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif spoil == "page":
        path.write_bytes(b"<html>not found</html>")
    else:
        shape = (240, 240, 47 if spoil == "grid" else 48)
        size = (0.958, 0.958, 1.0 if spoil == "size" else 3.0)
        write_regions(path, shape, size, label=37 if spoil == "label" else 1)
    with pytest.raises(DownloadError, match=expected):
        fetch_atlas(tmp_path / "here", str(atlas_mirror))
    assert not (tmp_path / "here" / published_regions("0")).exists()


def test_without_a_mirror_every_file_is_pinned_to_a_commit_and_required():
    files = atlas_files()
    assert len(files) == 7 + 170
    assert sum(file.checksum is not None for file in files) == 13
    assert not any(file.optional for file in files)
    for file in files:
        assert file.checksum or file.check
        folder, _, name = file.path.partition("/")
        assert re.search(r"/[0-9a-f]{40}$", datasets.REPOSITORIES[folder])
        assert (
            file.url == f"https://raw.githubusercontent.com/{datasets.REPOSITORIES[folder]}/{name}"
        )


@pytest.mark.shared
def test_the_whole_mirror_of_the_atlas_passes(shared, tmp_path):
    fetched = fetch_atlas(tmp_path, str(shared / "mirror"))
    assert len(fetched.new) == 13 and len(fetched.absent) == 164
    again = fetch_atlas(tmp_path, str(shared / "mirror"))
    assert len(again.kept) == 13 and again.new == ()


def test_published_labels_are_those_that_were_fetched(atlas_mirror, tmp_path):
    fetch_atlas(tmp_path / "atlas", str(atlas_mirror))
    found = published_labels(tmp_path / "atlas")
    assert found == {"0": tmp_path / "atlas" / published_regions("0")}
    assert published_labels(tmp_path / "nothing") == {}


@pytest.fixture
def heads_mirror(tmp_path, monkeypatch):
    """A mirror of twenty small files, and a table that knows these."""
    folder = tmp_path / "mirror/synthseg"
    folder.mkdir(parents=True)
    rows = []
    for name in HEADS:
        (folder / name).write_bytes(name.encode() * 100)
        rows.append(f"synthseg/{name},{hashlib.sha256(name.encode() * 100).hexdigest()}\n")
    table = tmp_path / "sums.csv"
    table.write_text("path,sha256\n" + "".join(rows))
    monkeypatch.setattr(datasets, "HEADS_CHECKSUMS", table)
    return folder.parent


def test_twenty_heads_come_once_from_a_folder(heads_mirror, tmp_path):
    result = run("heads", heads_mirror, tmp_path / "heads")
    assert result.exit_code == 0
    assert "Apache 2.0" in result.stdout and "Billot" in result.stdout
    assert "20 files fetched, 0 were there" in result.stdout
    assert sorted(path.name for path in (tmp_path / "heads").iterdir()) == HEADS
    again = run("heads", heads_mirror, tmp_path / "heads")
    assert "0 files fetched, 20 were there" in again.stdout


def test_heads_come_from_an_address_in_the_environment(heads_mirror, server, tmp_path):
    for path in (heads_mirror / "synthseg").iterdir():
        server.put(f"/m/synthseg/{path.name}", path.read_bytes())
    words = ["fetch", "heads", "--dest", str(tmp_path / "heads")]
    assert CliRunner().invoke(app, words, env={"WMH_MIRROR": f"{server.url}/m"}).exit_code == 0
    assert (tmp_path / "heads" / HEADS[7]).read_bytes() == HEADS[7].encode() * 100


@pytest.mark.parametrize(
    ("spoil", "message"), [("absent", "does not exist"), ("other", "SHA256 hash")]
)
def test_a_head_that_is_absent_or_another_is_an_error(heads_mirror, tmp_path, spoil, message):
    path = heads_mirror / "synthseg" / HEADS[4]
    path.unlink() if spoil == "absent" else path.write_bytes(b"other")
    result = run("heads", heads_mirror, tmp_path / "heads")
    assert result.exit_code != 0
    assert "1 of 20 files" in str(result.exception) and message in str(result.exception)
    assert not (tmp_path / "heads" / HEADS[4]).exists()


def test_upstream_every_head_is_pinned_to_its_commit_and_checksum(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(datasets, "fetch", lambda files, *_, **__: asked.extend(files))
    datasets.fetch_heads(tmp_path)
    folder = (
        "https://raw.githubusercontent.com/BBillot/SynthSeg/"
        "66342c1f05e520f3729a6d7ca1042eb7f01b6266/data/training_label_maps/"
    )
    assert [file.url for file in asked] == [folder + name for name in HEADS]
    assert len({file.checksum for file in asked}) == 20


@pytest.mark.shared
def test_the_whole_mirror_of_the_heads_passes(shared, tmp_path):
    assert len(datasets.fetch_heads(tmp_path, str(shared / "mirror")).new) == 20


def know(mirror: Path, table: Path) -> None:
    """Make a table of facts of the files in a mirror, in the form of the project's own."""
    rows = []
    for person, place in PLACES.items():
        for image in datasets.OPEN_IMAGES:
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
    monkeypatch.setattr(datasets, "OPEN_SCANS", tmp_path / "facts.csv")
    return tmp_path / "mirror"


def test_a_study_reads_who_was_fetched(mirror, tmp_path):
    folder = tmp_path / "sim_vent_wmh_seg"  # named like a data set, which must not matter
    result = run("open", mirror, folder)
    assert result.exit_code == 0, result.output
    assert "CC BY" in result.stdout and "MIT" in result.stdout and "Lesjak" in result.stdout
    assert (
        "9 files fetched" in result.stdout
        and "the 3 people whose files are complete" in result.stdout
    )
    found = find_csv(folder / "subjects.csv")
    assert [one.subject.id for one in found] == list(PEOPLE)
    assert not any(one.problems for one in found)
    assert {one.subject.split for one in found} == {UNDECIDED}
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
    run("open", mirror, tmp_path / "open")
    images = sorted((tmp_path / "open").rglob("*.nii.gz"))
    before = {path: path.stat().st_mtime_ns for path in images}
    assert len(before) == 18
    result = run("open", tmp_path / "nothing", tmp_path / "open")
    assert "0 files fetched, 9 were there" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_who_lacks_a_file_is_named_and_left_out(mirror, tmp_path):
    (mirror / PLACES["ms02"] / "lesions.nii.gz").unlink()
    result = run("open", mirror, tmp_path / "open")
    assert result.exit_code == 0
    assert "1 of 3 people lack files: ms02" in result.stdout
    assert [one.subject.id for one in find_csv(tmp_path / "open/subjects.csv")] == ["ms01", "sv252"]
    assert not (tmp_path / "open/ms02").exists()


def test_nobody_complete_ends_with_1_and_no_table(mirror, tmp_path):
    result = run("open", tmp_path / "nothing", tmp_path / "open")
    assert result.exit_code == 1
    assert "3 of 3 people lack files" in result.stdout
    assert not (tmp_path / "open/subjects.csv").exists()


def test_scans_that_are_not_as_published_are_refused(mirror, server, tmp_path):
    for path in mirror.rglob("*.gz"):
        server.put(f"/{path.relative_to(mirror).as_posix()}", path.read_bytes())
    assert run("open", server.url, tmp_path / "open").exit_code == 0
    spoilt = mirror / PLACES["ms01"] / "T1.nii.gz"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"x")
    refused = run("open", mirror, tmp_path / "other")
    assert re.search(r"ms_data/patient01/T1.nii.gz: the checksum is", str(refused.exception))


def test_masks_and_t1_on_another_grid_come_to_that_of_the_flair(mirror, tmp_path):
    moved = oblique()
    moved[:, 3] += moved[:, 0] * 2  # two voxels further along the first axis
    for image, data in (("T1", head(kind="t1")), ("lesions", (lesions() == 1).astype(np.uint8))):
        save(mirror / PLACES["ms01"] / f"{image}.nii.gz", data, moved)
    know(mirror, datasets.OPEN_SCANS)
    run("open", mirror, tmp_path / "open")
    mask = load_labels(tmp_path / "open/ms01/lesions.nii.gz")
    assert mask.data.shape == SHAPE
    np.testing.assert_array_equal(mask.data[2:], (lesions() == 1)[:-2])


def test_the_table_knows_35_people_pinned_to_commits(tmp_path, monkeypatch):
    asked = []

    def nothing_there(files, *_, **__):
        asked.extend(files)
        return Fetched((), (), tuple(tmp_path / "original" / f.path for f in files))

    monkeypatch.setattr(datasets, "fetch", nothing_there)
    datasets.fetch_open_scans(tmp_path)
    assert len(asked) == 105 and len({file.path for file in asked}) == 105
    assert all(re.fullmatch("[0-9a-f]{40}", *file.check.args) for file in asked)
    assert all(re.search("github.*/[0-9a-f]{40}/.*nii.gz", file.url) for file in asked)
    assert len(datasets.known_people(tmp_path)) == 35


def test_the_study_open_tests_a_third_of_each_data_set(tmp_path, monkeypatch):
    everyone = dict.fromkeys(datasets.known_people(tmp_path), True)
    monkeypatch.setattr(datasets, "known_people", lambda folder: everyone)
    monkeypatch.setattr(datasets, "fetch", lambda *_, **__: Fetched((), (), ()))
    datasets.fetch_open_scans(tmp_path)
    study, table = load_study("open"), tmp_path / "subjects.csv"
    assert str(table.relative_to(tmp_path)) == study.cohort.folder.name
    people = [one.subject for one in find_csv(table)]
    people = decide_splits(people, study.cohort.test_share, study.seed_for("splits"))
    share, seed = study.training.validation_share, study.seed_for("validation")
    learn, validate = validation_split(of_split(people, "training"), share, seed)
    parts = {"test": of_split(people, "test"), "learn": learn, "validate": validate}
    assert {part: Counter(s.scanner for s in chosen) for part, chosen in parts.items()} == {
        "test": {"open_ms_data": 10, "sim_vent_wmh_seg": 2},
        "learn": {"open_ms_data": 17, "sim_vent_wmh_seg": 2},
        "validate": {"open_ms_data": 3, "sim_vent_wmh_seg": 1},
    }
    asked = study.participants
    known = read_participants(table, [s.id for s in people])[[asked.variable, *asked.covariates]]
    assert len(known.dropna()) == 30


def gathered(folder: Path, monkeypatch) -> pd.DataFrame:
    """The cohort that the study open makes of the people in a folder's ``data/open_scans``."""
    study = load_study("open")
    monkeypatch.setenv("WMH_ROOT", str(folder))
    return gather_cohort(study).set_index("id")


def test_the_study_open_gathers_who_was_fetched(mirror, tmp_path, monkeypatch):
    for seed, (person, place) in enumerate(PLACES.items()):  # no two alike
        t1 = head(kind="t1", seed=seed)
        save(mirror / place / "FLAIR.nii.gz", head(seed=seed))
        save(mirror / place / "T1.nii.gz", t1[:, ::-1] if person == "sv252" else t1)
        save(mirror / place / "lesions.nii.gz", np.roll(lesions() == 1, seed, 0).astype(np.uint8))
    know(mirror, datasets.OPEN_SCANS)
    run("open", mirror, tmp_path / "data/open_scans")
    cohort = gathered(tmp_path, monkeypatch)
    assert sorted(cohort.index) == sorted(PEOPLE)
    assert cohort.loc[["ms01", "ms02"], "split"].tolist().count("test") == 1
    assert cohort.loc["sv252", "split"] == "training"  # nobody else of that data set is here


@pytest.mark.shared
def test_the_study_open_gathers_real_people(shared, tmp_path, monkeypatch):
    folder = tmp_path / "data/open_scans"
    folder.mkdir(parents=True)
    for person in ("ms26", "sv252", "sv755"):
        (folder / person).symlink_to(shared / "real" / person)
    assert run("open", tmp_path / "nothing", folder).exit_code == 0
    cohort = gathered(tmp_path, monkeypatch)
    assert cohort["lesion_ml"].round().tolist() == [8, 15, 14]
    assert cohort.loc["ms26", "split"] == "training"
    assert sorted(cohort.loc[["sv252", "sv755"], "split"]) == ["test", "training"]


@pytest.mark.shared
def test_a_real_scan_comes_out_as_the_one_at_hand(shared, mirror, tmp_path):
    for image in datasets.OPEN_IMAGES:
        path = shared / "real/sv252" / f"{image}.nii.gz"
        data, affine = np.asanyarray(nib.load(path).dataobj), nib.load(path).affine
        data = data[:, ::-1].astype(np.uint16) if image == "T1" else data
        nib.save(nib.Nifti1Image(data, affine), mirror / PLACES["sv252"] / path.name)
    know(mirror, datasets.OPEN_SCANS)
    run("open", mirror, tmp_path / "open")
    for image in datasets.OPEN_IMAGES:
        mine = load_image(tmp_path / f"open/sv252/{image}.nii.gz")
        expected = load_image(shared / f"real/sv252/{image}.nii.gz")
        assert same_grid(mine, expected)
        np.testing.assert_array_equal(mine.data, expected.data)


@pytest.mark.shared
def test_a_published_file_has_the_git_id_that_the_table_says(shared):
    facts = pd.read_csv(datasets.OPEN_SCANS, comment="#").set_index(["id", "image"])
    for person in ("sv074", "sv252", "sv465", "sv755", "sv911"):
        blob = facts.loc[(person, "lesions"), "git_blob"]
        datasets.raise_unless_git_blob(blob, shared / "real" / person / "lesions.nii.gz")


def test_a_git_blob_is_known_by_the_id_that_git_gives_it(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")  # as of: echo hello | git hash-object --stdin
    datasets.raise_unless_git_blob("ce013625030ba8dba906f756967f9e9ca394464a", tmp_path / "hello")
    with pytest.raises(ValueError, match="the checksum is ce01"):
        datasets.raise_unless_git_blob("0" * 40, tmp_path / "hello")
