"""Fetching from a server that cuts, lies, stalls and points elsewhere."""

from __future__ import annotations

import hashlib
import resource
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmh.cohorts.download import Fetched, RemoteFile, checksum_of, fetch, place_below
from wmh.cohorts.download_source import DownloadError, Patience

HURRY = Patience(attempts=3, first_wait=0.01, longest_wait=0.05, timeout=0.4, slowest=500)
BODY = bytes(range(256)) * 400  # 100 kB


def remote(url: str, body: bytes = BODY, path: str = "a/b.nii.gz", **changes) -> RemoteFile:
    known = {"size": len(body), "checksum": f"sha1:{hashlib.sha1(body).hexdigest()}"}
    return RemoteFile(path, url, **(known | changes))


def get(files: list[RemoteFile] | RemoteFile, folder, **options) -> Fetched:
    files = [files] if isinstance(files, RemoteFile) else files
    return fetch(files, folder, patience=HURRY, **options)


def test_a_file_arrives_whole_and_is_kept_the_next_time(server, tmp_path):
    file = remote(server.put("/1", BODY))
    assert get(file, tmp_path).new == (tmp_path / "a/b.nii.gz",)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    assert get(file, tmp_path) == Fetched((), (tmp_path / "a/b.nii.gz",), ())
    assert server.asked["/1"] == 1
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.nii.gz"]


def test_a_wrong_file_in_its_place_is_fetched_again(server, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.nii.gz").write_bytes(BODY[:-1] + b"x")
    assert get(remote(server.put("/1", BODY)), tmp_path).new
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


def test_cut_connections_go_on_where_they_broke(server, tmp_path):
    file = remote(server.put("/1", BODY, cut_after=30_000, cuts=3))
    get(file, tmp_path)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    assert server.ranges == ["bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_cuts_without_a_length_go_on_too(server, tmp_path):
    file = remote(server.put("/1", BODY, cut_after=60_000, cuts=1, announce_length=False))
    get(file, tmp_path)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    assert server.ranges == ["bytes=60000-"]


def test_a_later_run_goes_on_from_the_part_an_earlier_one_left(server, tmp_path):
    file = remote(server.put("/1", BODY, cut_after=40_000, cuts=1))
    with pytest.raises(DownloadError, match="attempt 1"):
        fetch([file], tmp_path, patience=Patience(1, 0, 0, 0.4, slowest=1e6))
    assert not (tmp_path / "a/b.nii.gz").exists()
    assert (tmp_path / "a/.b.nii.gz.part").read_bytes() == BODY[:40_000]
    get(file, tmp_path)
    assert server.ranges == ["bytes=40000-"]
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, tmp_path):
    file = remote(server.put("/1", BODY, cut_after=40_000, cuts=1, ranges=False))
    get(file, tmp_path)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


@pytest.mark.parametrize("shift", [-1000, 7])
def test_another_range_than_asked_for_never_spoils_the_file(server, tmp_path, shift):
    file = remote(server.put("/1", BODY, cut_after=40_000, cuts=1, range_shift=shift))
    if shift < 0:
        get(file, tmp_path)
        assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    else:
        with pytest.raises(DownloadError, match="another part than was asked for"):
            get(file, tmp_path)
        assert not (tmp_path / "a/b.nii.gz").exists()


def test_a_part_of_something_else_is_found_out_by_the_checksum(server, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.b.nii.gz.part").write_bytes(b"x" * 500)
    get(remote(server.put("/1", BODY)), tmp_path)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


def test_a_whole_part_of_unknown_size_needs_no_second_transfer(server, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.b.nii.gz.part").write_bytes(BODY)
    get(remote(server.put("/1", BODY), size=None), tmp_path)
    assert server.ranges == [f"bytes={len(BODY)}-"]
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    file = remote(server.put("/1", BODY[::-1]))
    with pytest.raises(DownloadError, match=r"(?s)/1: its checksum is sha1:.*attempt 3"):
        get(file, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_git_blob_is_known_by_the_id_that_git_gives_it(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")  # as of: echo hello | git hash-object --stdin
    found = checksum_of(tmp_path / "hello", "gitblob")
    assert found == "gitblob:ce013625030ba8dba906f756967f9e9ca394464a"


def test_more_bytes_than_announced_is_an_error_and_is_cut_off(server, tmp_path):
    file = remote(server.put("/1", BODY * 30), BODY)
    with pytest.raises(DownloadError, match=f"bytes came, {len(BODY)} were announced"):
        get(file, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_check_of_the_content_that_fails_is_an_error(server, tmp_path):
    def refuse(path):
        raise ValueError("the grid is another")

    with pytest.raises(DownloadError, match="the grid is another"):
        get(remote(server.put("/1", BODY), check=refuse), tmp_path)
    assert not (tmp_path / "a/b.nii.gz").exists()


def test_a_busy_server_is_asked_again(server, tmp_path):
    file = remote(server.put("/1", BODY, statuses=[503, 429]))
    get(file, tmp_path)
    assert server.asked["/1"] == 3


def test_a_server_that_stays_busy_is_given_up_by_name(server, tmp_path):
    url = server.put("/1", BODY, statuses=[503] * 9)
    with pytest.raises(DownloadError, match=rf"{url}: the server answers 503 \(attempt 3\)"):
        get(remote(url), tmp_path)
    assert server.asked["/1"] == 3


def test_the_wait_that_a_server_asks_for_is_kept(server, tmp_path):
    url = server.put("/1", BODY, statuses=[503], retry_after=1)
    started = time.monotonic()
    patience = Patience(attempts=3, first_wait=0.01, longest_wait=0.3, timeout=1)
    fetch([remote(url)], tmp_path, patience=patience)
    assert 0.3 <= time.monotonic() - started < 0.9  # one second was asked for, 0.3 is the most


def test_a_slow_drip_is_given_up_and_not_taken_for_whole(server, tmp_path):
    url = server.put("/1", BODY, drip=0.02)
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"bytes a second \(attempt 3\)"):
        get(remote(url), tmp_path)
    assert time.monotonic() - started < 5
    assert not (tmp_path / "a/b.nii.gz").exists()


def test_a_silent_server_is_given_up(server, tmp_path):
    url = server.put("/1", BODY, drip=2.0)
    with pytest.raises(DownloadError, match="the connection failed"):
        get(remote(url), tmp_path)


def test_a_redirect_is_followed_and_the_range_goes_with_it(server, tmp_path):
    there = server.put("/there", BODY, cut_after=50_000, cuts=1)
    get(remote(server.put("/1", b"", redirect=there)), tmp_path)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    assert server.ranges == ["bytes=50000-"] * 2


def test_a_redirect_to_a_local_file_is_refused(server, tmp_path):
    (tmp_path / "secret").write_bytes(BODY)
    url = server.put("/1", b"", redirect=f"file://{tmp_path / 'secret'}")
    with pytest.raises(DownloadError, match="leads to no http address"):
        get(remote(url), tmp_path / "here")
    assert [p for p in (tmp_path / "here").rglob("*") if p.is_file()] == []


def test_a_redirect_in_a_circle_ends(server, tmp_path):
    url = server.put("/1", b"", redirect="/1")
    with pytest.raises(DownloadError, match="TooManyRedirects"):
        get(remote(url), tmp_path)


def test_a_missing_file_is_named_at_once_and_the_others_arrive(server, tmp_path):
    files = [remote(f"{server.url}/none", path="none"), remote(server.put("/1", BODY))]
    with pytest.raises(DownloadError, match=r"1 of 2 files .*\n.*/none: not there"):
        get(files, tmp_path)
    assert server.asked["/none"] == 1
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


def test_an_optional_file_may_be_absent(server, tmp_path):
    fetched = get(remote(f"{server.url}/none", optional=True), tmp_path)
    assert fetched == Fetched((), (), (tmp_path / "a/b.nii.gz",))


def test_several_files_come_at_a_time(server, tmp_path):
    small = BODY[:20]
    files = [remote(server.put(f"/{i}", small, drip=0.005), small, path=f"{i}") for i in range(8)]
    get(files, tmp_path, workers=4)
    assert server.most_at_once >= 2
    assert all((tmp_path / f"{i}").read_bytes() == small for i in range(8))


def test_a_local_source_gets_the_same_checks(tmp_path):
    (tmp_path / "mirror").write_bytes(BODY)
    get(remote(str(tmp_path / "mirror")), tmp_path / "here")
    assert (tmp_path / "here/a/b.nii.gz").read_bytes() == BODY
    (tmp_path / "mirror").write_bytes(BODY[:-1] + b"?")
    with pytest.raises(DownloadError, match="its checksum is"):
        get(remote(str(tmp_path / "mirror"), path="c"), tmp_path / "here")
    assert not (tmp_path / "here/c").exists()


@pytest.mark.parametrize(
    "path",
    [
        "../out",
        "a/../../out",
        "/etc/out",
        "a\\..\\out",
        "C:/out",
        "a/b. ",
        "a/\x00b",
        "",
        "..",
        "a/..",
    ],
)
def test_a_name_that_tries_to_leave_the_folder_stops_everything(server, tmp_path, path):
    inside = tmp_path / "inside"
    files = [remote(server.put("/1", BODY), path="good"), remote(server.url + "/1", path=path)]
    with pytest.raises(DownloadError, match="not a place below"):
        get(files, inside)
    assert list(tmp_path.rglob("*")) == []
    assert server.asked["/1"] == 0


def test_a_link_that_leads_out_of_the_folder_is_not_followed(server, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    (inside / "a").symlink_to(outside)
    with pytest.raises(DownloadError, match="a link leads out of"):
        get(remote(server.put("/1", BODY)), inside)
    assert list(outside.iterdir()) == []


def test_a_part_that_is_a_link_is_not_written_through(server, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "a").mkdir(parents=True)
    outside.write_bytes(b"mine")
    (inside / "a/.b.nii.gz.part").symlink_to(outside)
    get(remote(server.put("/1", BODY)), inside)
    assert outside.read_bytes() == b"mine"


@given(st.text(alphabet="ab./\\: ~\n", max_size=12))
def test_every_place_is_below_the_folder(tmp_path_factory, path):
    folder = tmp_path_factory.getbasetemp() / "folder"
    try:
        target = place_below(folder, path)
    except DownloadError:
        return
    assert folder.resolve() in target.resolve().parents


def test_two_files_for_one_place_are_refused(server, tmp_path):
    url = server.put("/1", BODY)
    with pytest.raises(DownloadError, match="listed twice"):
        get([remote(url, path="A"), remote(url, path="a")], tmp_path)


def test_too_little_room_is_said_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10))
    with pytest.raises(DownloadError, match=r"0\.0 GB are free"):
        get(remote(server.put("/1", BODY)), tmp_path)
    assert server.asked["/1"] == 0


@contextmanager
def largest_file(size: int):
    """Let the system refuse to write files beyond a size in bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_ends_the_run_clearly_and_keeps_what_came(server, tmp_path):
    large = BODY * 40
    files = [
        remote(server.put("/1", large), large, path="large"),
        remote(server.put("/2", BODY[:300], drip=0.05), BODY[:300], path="slow"),
    ]
    started = time.monotonic()
    with largest_file(1_000_000), pytest.raises(DownloadError, match="large: the disk is full"):
        fetch(files, tmp_path, patience=Patience(timeout=10))
    assert time.monotonic() - started < 5  # the slow file alone takes 15 s
    assert not (tmp_path / "large").exists()
    get(files[0], tmp_path)
    assert (tmp_path / "large").read_bytes() == large
    assert server.ranges, "the second run goes on from what came"


def test_no_thread_is_left_behind(server, tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    get(remote(server.put("/1", BODY)), tmp_path)
    pools = {t.name for t in threading.enumerate() if t.name.startswith("ThreadPool")}
    assert pools <= before
