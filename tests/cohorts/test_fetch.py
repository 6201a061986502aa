"""Fetching from a server that cuts, lies, stalls and points elsewhere."""

from __future__ import annotations

import hashlib
import resource
import shutil
import stat
import threading
from contextlib import contextmanager

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from wmh.cohorts import fetch as module
from wmh.cohorts.fetch import DownloadError, Fetched, RemoteFile, fetch, place_below

BODY = bytes(range(256)) * 400  # 100 kB


def remote(url: str, body: bytes = BODY, path: str = "a/b.nii.gz", **changes) -> RemoteFile:
    known = {"size": len(body), "checksum": f"sha1:{hashlib.sha1(body).hexdigest()}"}
    return RemoteFile(path, url, **(known | changes))


def get(files: list[RemoteFile] | RemoteFile, folder, **options) -> Fetched:
    files = [files] if isinstance(files, RemoteFile) else files
    return fetch(files, folder, "test", **options)


def test_a_file_arrives_whole_and_is_kept_the_next_time(server, tmp_path):
    file = remote(server.put("/1", BODY))
    assert get(file, tmp_path).new == (tmp_path / "a/b.nii.gz",)
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    assert get(file, tmp_path) == Fetched((), (tmp_path / "a/b.nii.gz",), ())
    assert server.asked["/1"] == 1
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.nii.gz"]
    (tmp_path / "mine").touch()
    one, other = ((tmp_path / name).stat().st_mode for name in ("a/b.nii.gz", "mine"))
    assert stat.S_IMODE(one) == stat.S_IMODE(other)


@pytest.mark.parametrize("known", ["checksum", "check"])
def test_a_wrong_file_in_its_place_is_fetched_again(server, tmp_path, known):
    def check(path):
        if path.read_bytes() != BODY:
            raise ValueError("another")

    file = remote(server.put("/1", BODY))
    if known == "check":
        file = remote(file.url, checksum=None, check=check)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.nii.gz").write_bytes(BODY[:-1] + b"x")
    assert get(file, tmp_path).new
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY
    assert get(file, tmp_path).kept


@pytest.mark.parametrize("announced", [True, False])
def test_a_cut_connection_is_tried_again(server, tmp_path, announced):
    url = server.put("/1", BODY, cut_after=30_000, cuts=2, announce_length=announced)
    get(remote(url), tmp_path)
    assert server.asked["/1"] == 3
    assert (tmp_path / "a/b.nii.gz").read_bytes() == BODY


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    file = remote(server.put("/1", BODY[::-1]))
    with pytest.raises(DownloadError, match=r"/1: SHA1 hash .* does not match"):
        get(file, tmp_path)
    assert server.asked["/1"] == 1 + module.RETRIES
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
    with pytest.raises(DownloadError, match=rf"{url}: the server answered 503 Service Unavailable"):
        get(remote(url), tmp_path)


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setitem(module.from_web.kwargs, "timeout", 0.1)
    with pytest.raises(DownloadError, match="no connection"):
        get(remote(server.put("/1", BODY, drip=0.4)), tmp_path)


def test_of_a_server_that_cannot_be_reached_not_every_file_is_asked(tmp_path, monkeypatch):
    asked = []

    def refused(url, *_):
        asked.append(url)
        raise requests.ConnectionError

    monkeypatch.setattr(module, "from_web", refused)
    files = [RemoteFile(str(n), f"http://127.0.0.1:1/{n}") for n in range(40)]
    with pytest.raises(DownloadError, match="40 of 40 files could not be fetched") as caught:
        get(files, tmp_path)
    assert "no connection (ConnectionError)" in str(caught.value)
    assert len(set(asked)) <= 12  # those of the first workers, and few more


def test_a_redirect_to_a_local_file_is_refused(server, tmp_path):
    (tmp_path / "secret").write_bytes(BODY)
    url = server.put("/1", b"", redirect=f"file://{tmp_path / 'secret'}")
    with pytest.raises(DownloadError, match="InvalidSchema"):
        get(remote(url), tmp_path / "here")
    assert [p for p in (tmp_path / "here").rglob("*") if p.is_file()] == []


def test_a_redirect_in_a_circle_ends(server, tmp_path):
    url = server.put("/1", b"", redirect="/1")
    with pytest.raises(DownloadError, match="TooManyRedirects"):
        get(remote(url), tmp_path)


def test_a_missing_file_is_named_at_once_and_the_others_arrive(server, tmp_path):
    files = [remote(f"{server.url}/none", path="none"), remote(server.put("/1", BODY))]
    with pytest.raises(DownloadError, match=r"1 of 2 files .*\n.*/none: does not exist"):
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
    with pytest.raises(DownloadError, match="does not match"):
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
    with pytest.raises(DownloadError, match="not a valid path below"):
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


def test_a_disk_that_fills_up_ends_the_run_and_leaves_no_half_file(server, tmp_path):
    large = BODY * 40
    file = remote(server.put("/1", large), large, path="large")
    with largest_file(1_000_000), pytest.raises(OSError, match="File too large"):
        get(file, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_thread_is_left_behind(server, tmp_path):
    before = {thread.name for thread in threading.enumerate()}
    get(remote(server.put("/1", BODY)), tmp_path)
    pools = {t.name for t in threading.enumerate() if t.name.startswith("ThreadPool")}
    assert pools <= before
