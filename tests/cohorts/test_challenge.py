"""The challenge's 170 subjects, and its files from a Dataverse on this machine."""

from __future__ import annotations

import hashlib
import json

import pytest

from wmh.cohorts.challenge import (
    DOI,
    NOTICE,
    fetch_challenge,
    files_in,
    known_subjects,
    local_path,
    missing_subjects,
)
from wmh.cohorts.fetch import DownloadError

LIST = "/api/datasets/:persistentId/"
PUBLISHED = (
    "training/Utrecht/0/pre/FLAIR.nii.gz",
    "training/Utrecht/0/pre/T1.nii.gz",
    "training/Utrecht/0/wmh.nii.gz",
    "training/Utrecht/0/orig/3DT1.nii.gz",
    "test/Amsterdam/Philips_VU .PETMR_01./160/wmh.nii.gz",
    "additional_annotations/observer_o3/training/Utrecht/0/result.nii.gz",
    "additional_annotations/observer_o4/training/Utrecht/0/result.nii.gz",
    "readme.pdf",
)


def entry(identity: int, path: str, body: bytes, kind: str = "SHA-1") -> dict:
    folder, _, name = path.rpartition("/")
    algorithm = kind.replace("-", "").lower()
    data = {
        "id": identity,
        "filename": name,
        "filesize": len(body),
        "checksum": {"type": kind, "value": hashlib.new(algorithm, body).hexdigest()},
    }
    return {"label": name, "dataFile": data} | ({"directoryLabel": folder} if folder else {})


def made_up(path: str) -> bytes:
    return path.encode() * 50


def dataverse(server, paths=PUBLISHED, content=made_up, **behaviour) -> dict:
    """Serve these files as a Dataverse does; the listing."""
    files = []
    for identity, path in enumerate(paths, 1):
        body = content(path)
        server.put(f"/api/access/datafile/{identity}", body, **behaviour)
        files.append(entry(identity, path, body, "MD5" if identity % 2 else "SHA-1"))
    listing = {"status": "OK", "data": {"latestVersion": {"files": files}}}
    server.put(LIST, json.dumps(listing).encode(), statuses=[503])
    return listing


def below(folder) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_everything_but_the_observers_comes_in_the_published_layout(server, tmp_path):
    dataverse(server)
    fetch_challenge(tmp_path, server=server.url)
    assert below(tmp_path) == {
        *(path for path in PUBLISHED[:4]),
        "test/Amsterdam/Philips_VU_PETMR_01/160/wmh.nii.gz",
        "readme.pdf",
    }
    assert (tmp_path / PUBLISHED[0]).read_bytes() == PUBLISHED[0].encode() * 50


def test_a_second_call_asks_for_the_list_only(server, tmp_path):
    dataverse(server)
    fetch_challenge(tmp_path, server=server.url)
    asked = server.asked.total()
    again = fetch_challenge(tmp_path, server=server.url)
    assert again.new == () and len(again.kept) == 6
    assert server.asked.total() == asked + 1


@pytest.mark.parametrize(
    ("split", "observers", "expected"),
    [
        ("training", False, {1, 2, 3, 4, 8}),
        ("test", False, {5, 8}),
        ("training", True, {1, 2, 3, 4, 6, 7, 8}),
        ("test", True, {5, 8}),
        ("all", True, {1, 2, 3, 4, 5, 6, 7, 8}),
    ],
)
def test_a_split_and_the_observers_can_be_chosen(server, split, observers, expected):
    files = files_in(dataverse(server), "http://server", split, observers)
    assert {int(file.url.rpartition("/")[2]) for file in files} == expected


def test_all_misbehaviour_at_once_still_ends_with_whole_files(server, tmp_path):
    dataverse(server, statuses=[], cut_after=700, cuts=1)
    server.pages["/api/access/datafile/1"].statuses = [503, 500]
    fetch_challenge(tmp_path, server=server.url)
    assert all((tmp_path / path).read_bytes() == path.encode() * 50 for path in PUBLISHED[:4])


def test_a_wrong_checksum_is_named_and_not_stored(server, tmp_path):
    dataverse(server)
    server.put("/api/access/datafile/3", PUBLISHED[2].encode()[::-1] * 50)
    with pytest.raises(DownloadError, match=r"datafile/3: MD5 hash .* does not match"):
        fetch_challenge(tmp_path, server=server.url)
    assert PUBLISHED[2] not in below(tmp_path)
    assert PUBLISHED[1] in below(tmp_path)


@pytest.mark.parametrize("path", ["training/../../out.nii.gz", "../../etc/cron", "/etc/out"])
def test_a_listing_that_leads_out_of_the_folder_writes_nothing(server, tmp_path, path):
    dataverse(server, [*PUBLISHED, path])
    with pytest.raises(DownloadError, match="not a valid path below"):
        fetch_challenge(tmp_path / "here", server=server.url)
    assert below(tmp_path) == set()


def test_a_listing_that_is_no_json_is_retried_and_then_an_error(server, tmp_path):
    server.put(LIST, b"<html>busy</html>")
    with pytest.raises(DownloadError, match=r"persistentId=doi:10\.34894/AECRSD: Expecting value"):
        fetch_challenge(tmp_path, server=server.url)
    assert server.asked[LIST] == 4


@pytest.mark.parametrize(
    "listing", [{}, {"data": None}, {"data": {"latestVersion": {"files": [{}]}}}]
)
def test_a_listing_of_another_form_is_one_clear_error(listing):
    with pytest.raises(DownloadError, match="does not have the expected form"):
        files_in(listing, "http://server", "all", False)


def test_an_unknown_kind_of_checksum_is_not_passed_over(server):
    listing = dataverse(server)
    listing["data"]["latestVersion"]["files"][0]["dataFile"]["checksum"]["type"] = "CRC"
    with pytest.raises(DownloadError, match="'CRC'"):
        files_in(listing, "http://server", "all", False)


def test_the_notice_names_licence_and_citation():
    assert "CC BY-NC 4.0" in NOTICE and DOI in NOTICE and "10.1109/TMI.2019.2905770" in NOTICE


def test_the_folder_that_windows_cannot_store_gets_one_safe_name():
    published = "Amsterdam/Philips_VU .PETMR_01./160"
    assert local_path(f"test/{published}/x") == "test/Amsterdam/Philips_VU_PETMR_01/160/x"
    assert local_path(f"additional_annotations/observer_o3/test/{published}/x").endswith(
        "/test/Amsterdam/Philips_VU_PETMR_01/160/x"
    )
    assert local_path("training/Amsterdam/GE3T/100/x") == "training/Amsterdam/GE3T/100/x"


def test_the_known_subjects_are_those_of_the_challenge():
    table = known_subjects()
    assert len(table) == table["id"].nunique() == 170
    assert table["split"].value_counts().to_dict() == {"test": 110, "training": 60}
    assert set(table.loc[table["split"] == "training", "scanner"]) == {
        "utrecht_philips_3t",
        "singapore_siemens_3t",
        "amsterdam_ge_3t",
    }


def test_missing_subjects_are_named_by_their_place(tmp_path):
    assert len(missing_subjects(tmp_path, "all")) == 170
    for row in known_subjects().itertuples():
        place = tmp_path / local_path(f"{row.split}/{row.folder}/{row.id}")
        (place / "pre").mkdir(parents=True)
        for name in ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"):
            (place / name).touch()
    assert missing_subjects(tmp_path, "all") == []
    (tmp_path / "test/Amsterdam/Philips_VU_PETMR_01/160/wmh.nii.gz").unlink()
    assert missing_subjects(tmp_path, "all") == ["test/Amsterdam/Philips_VU_PETMR_01/160"]
    assert missing_subjects(tmp_path, "training") == []


def test_a_subject_under_the_published_folder_is_not_missing(tmp_path):
    place = tmp_path / "test/Amsterdam/Philips_VU .PETMR_01./160"
    (place / "pre").mkdir(parents=True)
    for name in ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"):
        (place / name).touch()
    missing = missing_subjects(tmp_path, "test")
    assert len(missing) == 109 and "test/Amsterdam/Philips_VU_PETMR_01/160" not in missing
