"""The cohort table: who is in it, what is refused, and that no subject is in two splits."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmh.cohorts.cohort import (
    CohortError,
    Subject,
    load_pair,
    of_split,
    read_cohort,
    validation_split,
    write_cohort,
)
from wmh.cohorts.scanners import SCANNERS, scanner_at
from wmh.cohorts.sources import find_challenge

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def person(folder: Path, place: str = "training/Utrecht/0") -> Path:
    """A subject of the challenge's tree: 3 voxels of lesion, 2 of other pathology."""
    data = np.random.default_rng(0).random((6, 7, 8), dtype=np.float32)
    lesions = np.zeros((6, 7, 8), np.float32)
    lesions[2, 2, 2:5], lesions[4, 4, 2:4] = 1, 2
    for name in ("FLAIR", "T1"):
        save(folder / place / "pre" / f"{name}.nii.gz", data)
    save(folder / place / "wmh.nii.gz", lesions)
    return folder / place


def subject(number: int, split: str = "training", scanner: str = "utrecht_philips_3t") -> Subject:
    return Subject(str(number), split, scanner, None, None)


def test_subjects_are_found_in_every_scanner_folder(tmp_path):
    for number, scanner in enumerate(SCANNERS.values()):
        person(tmp_path, f"test/{scanner.published_folder}/{number}")
    found = find_challenge(tmp_path)
    assert {s.scanner for s in found} == set(SCANNERS)
    assert {s.split for s in found} == {"test"}
    assert all(s.true_regions is None for s in found)


def test_true_regions_are_taken_where_they_lie(tmp_path):
    place = person(tmp_path)
    save(place / "regions.nii.gz", np.zeros((6, 7, 8), np.uint8))
    assert find_challenge(tmp_path)[0].true_regions == place / "regions.nii.gz"


def test_an_unknown_scanner_folder_is_named(tmp_path):
    person(tmp_path, "training/Copenhagen/0")
    with pytest.raises(CohortError, match="Copenhagen"):
        find_challenge(tmp_path)


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(CohortError, match=r"Expected training/ and test/"):
        find_challenge(tmp_path)


def test_both_spellings_of_a_scanner_folder_are_known():
    assert scanner_at("Amsterdam/Philips_VU .PETMR_01.") is scanner_at(
        "Amsterdam/Philips_VU_PETMR_01"
    )
    assert scanner_at("Amsterdam") is None


def test_a_subject_without_an_image_is_named():
    with pytest.raises(CohortError, match="subject 7: the image flair is missing"):
        load_pair(subject(7))


def test_the_table_comes_back_as_it_was_written(tmp_path):
    person(tmp_path, "training/Utrecht/007")  # an identity, not the number 7
    found = find_challenge(tmp_path)
    write_cohort(map(asdict, found), tmp_path / "cohort.csv")
    assert read_cohort(tmp_path / "cohort.csv") == found
    assert not list(tmp_path.glob("*.part"))


def test_a_table_that_moves_with_its_checkout_keeps_working(tmp_path, monkeypatch):
    old, new, elsewhere = tmp_path / "old", tmp_path / "new", tmp_path / "elsewhere/T1.nii.gz"
    monkeypatch.setenv("WMH_ROOT", str(old))
    person(old / "data")
    (found,) = find_challenge(old / "data")
    write_cohort([asdict(replace(found, t1=elsewhere))], old / "results/mine/cohort.csv")
    old.rename(new)
    monkeypatch.setenv("WMH_ROOT", str(new))
    (moved,) = read_cohort(new / "results/mine/cohort.csv")
    assert moved.flair == new / "data/training/Utrecht/0/pre/FLAIR.nii.gz"
    assert moved.flair.is_file()
    assert moved.t1 == elsewhere


def test_a_subject_in_both_splits_is_refused(tmp_path):
    rows = [{"id": "3", "split": split, "scanner": "x"} for split in ("training", "test")]
    with pytest.raises(CohortError, match="subjects 3 occur twice"):
        write_cohort(rows, tmp_path / "cohort.csv")
    assert not (tmp_path / "cohort.csv").exists()


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(lambda n: sum(n) > 1),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_validation_parts_every_scanner_and_never_overlaps(counts, share, seed):
    scanners = [name for name, count in enumerate(counts) for _ in range(count)]
    subjects = [subject(number, scanner=str(name)) for number, name in enumerate(scanners)]
    learn, validate = validation_split(subjects, share, seed)
    assert not {s.id for s in learn} & {s.id for s in validate}
    assert {s.id for s in learn} | {s.id for s in validate} == {s.id for s in subjects}
    if max(counts) > 1:
        assert {s.scanner for s in validate} == {str(i) for i, n in enumerate(counts) if n > 1}
        assert {s.scanner for s in learn} == {s.scanner for s in subjects}
    assert learn
    assert validate
    assert (learn, validate) == validation_split(subjects, share, seed)


def test_a_test_subject_is_never_learned_from():
    with pytest.raises(CohortError, match="subjects 1 are not in the training split"):
        validation_split([subject(0), subject(1, "test")], 0.5, 0)


def test_the_only_subject_of_a_scanner_learns():
    subjects = [subject(0, scanner="alone"), *(subject(n, scanner="b") for n in (1, 2, 3))]
    for seed in range(10):
        learn, validate = validation_split(subjects, 0.5, seed)
        assert subjects[0] in learn
        assert {s.scanner for s in validate} == {"b"}


def test_a_cohort_of_a_subject_a_scanner_is_split_all_the_same():
    subjects = [subject(number, scanner=str(number)) for number in range(5)]
    learn, validate = validation_split(subjects, 0.4, 0)
    assert (len(learn), len(validate)) == (3, 2)


@pytest.mark.parametrize("sessions", [0, 1, 2])
def test_fewer_than_two_people_cannot_be_split(sessions):
    subjects = [replace(subject(0), id=f"sub-p_ses-{number}") for number in range(sessions)]
    said = rf"{min(sessions, 1)} people in the training split: at least two .*\. Add people"
    with pytest.raises(CohortError, match=said):
        validation_split(subjects, 0.5, 0)


def test_subjects_of_a_split_keep_their_order():
    subjects = [subject(2), subject(0, "test"), subject(1)]
    assert [s.id for s in of_split(subjects, "training")] == ["2", "1"]
