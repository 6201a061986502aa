"""A study's cohort: checked, on one grid, parted, and honest about who was left out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cohorts.scans import SHAPE, VOXEL_MM, head, oblique, save, save_bids, save_subject
from wmh import images
from wmh.cohorts import check
from wmh.cohorts.cohort import (
    CohortError,
    cohort_note,
    left_out_note,
    load_pair,
    of_split,
    read_cohort,
    read_left_out,
    validation_split,
)
from wmh.cohorts.gather import gather_cohort
from wmh.images import load_image, same_grid
from wmh.pipeline.notebook import reason_of
from wmh.settings import CohortSettings
from wmh.study import Study

ONE_MODEL = {"flair": {"task": "lesions", "inputs": "flair", "steps": 1}}

OTHER_SHAPE, OTHER_MM = (30, 36, 30), (6.0, 6.0, 6.0)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that makes a study of a source in a project of its own."""
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))

    def make(source: str, folder: str = "data", **settings) -> Study:
        cohort = CohortSettings(source=source, folder=folder, **settings)
        return Study(name="mine", title="Mine", cohort=cohort, models=ONE_MODEL)

    return make


def save_challenge(folder, count: int = 3) -> None:
    for k in range(count):
        save_subject(folder / f"training/Utrecht/{k}", seed=k)
    save_subject(folder / "test/Singapore/50", seed=7)


def test_a_bids_cohort_gets_its_splits_and_its_table(study, tmp_path):
    save_bids(tmp_path / "data", people=3)
    mine = study("bids", test_share=0.34)
    table = gather_cohort(mine)
    assert sorted(table["split"]) == ["test", "training", "training"]
    assert [s.id for s in read_cohort(mine.results / "cohort.csv")] == [
        "sub-01",
        "sub-02",
        "sub-03",
    ]
    assert gather_cohort(mine).equals(table)
    assert read_left_out(mine.results).empty
    assert left_out_note(mine.results) == "No subject was left out."


def test_a_challenge_that_is_not_complete_is_told_of(study, tmp_path):
    save_challenge(tmp_path / "data")
    with pytest.warns(UserWarning, match="168 of the challenge's 170 subjects .*wmh fetch chall"):
        gather_cohort(study("challenge"))


def test_an_unusable_subject_stops_the_study_and_is_named(study, tmp_path):
    save_challenge(tmp_path / "data")
    spoiled = tmp_path / "data/training/Utrecht/1/pre/T1.nii.gz"
    spoiled.write_bytes(b"")
    with pytest.raises(CohortError, match=r"(?s)1 of 4 subjects .*T1\.nii\.gz: the file is empty"):
        gather_cohort(study("challenge"))
    assert not (tmp_path / "results/mine/cohort.csv").exists()


def test_a_study_that_may_goes_on_without_and_says_who(study, tmp_path):
    save_challenge(tmp_path / "data")
    (tmp_path / "data/training/Utrecht/1/pre/T1.nii.gz").write_bytes(b"")
    mine = study("challenge", leave_out_unusable=True)
    assert len(gather_cohort(mine)) == 3
    assert {s.id for s in read_cohort(mine.results / "cohort.csv")} == {"0", "2", "50"}
    (row,) = read_left_out(mine.results).to_dict("records")
    assert (row["id"], row["split"], row["scanner"]) == ("1", "training", "utrecht_philips_3t")
    assert "T1.nii.gz: the file is empty (0 bytes). Copy or download it again." in row["problems"]
    note = left_out_note(mine.results)
    assert note.startswith("1 subject was left out as unusable (1);")
    assert cohort_note(mine) == note


def test_numbers_of_simulated_subjects_are_said_to_be_so(study, tmp_path):
    save_challenge(tmp_path / "data")
    real = study("challenge")
    gather_cohort(real)
    cohort = real.cohort.model_copy(update={"source": "simulated"})
    assert "**simulated**" not in cohort_note(real)
    assert "**simulated**" in cohort_note(real.model_copy(update={"cohort": cohort}))


def test_a_split_that_would_be_empty_stops_the_study(study, tmp_path):
    save_challenge(tmp_path / "data")
    (tmp_path / "data/test/Singapore/50/wmh.nii.gz").unlink()
    with pytest.raises(CohortError, match="no usable subject in the test split"):
        gather_cohort(study("challenge", leave_out_unusable=True))


@pytest.mark.parametrize(("shift", "register"), [(0.0, False), (25.0, False), (25.0, True)])
def test_a_t1_on_another_grid_gets_a_copy_on_the_flairs(study, tmp_path, shift, register):
    save_challenge(tmp_path / "data", count=1)
    original = tmp_path / "data/training/Utrecht/0/pre/T1.nii.gz"
    data = head(OTHER_SHAPE, oblique(OTHER_SHAPE, OTHER_MM, -4), "t1", 5)
    save(original, data, oblique(OTHER_SHAPE, OTHER_MM, -4, shift=(0.0, shift, 0.0)))
    before = original.read_bytes()
    mine = study("challenge", register_t1=register)
    if shift and not register:
        with pytest.warns(UserWarning, match=r"lies 2\d\.\d mm off its FLAIR"):
            gather_cohort(mine)
    else:
        gather_cohort(mine)
    subject = next(s for s in read_cohort(mine.results / "cohort.csv") if s.id == "0")
    assert subject.t1 == mine.results / "aligned/0_t1.nii.gz"
    assert original.read_bytes() == before
    flair, t1 = load_image(subject.flair), load_image(subject.t1)
    assert same_grid(flair, t1)
    brain = flair.data > 50
    covered = (load_pair(subject)[1].data[brain] > 50).mean()
    assert (covered > 0.97) == (register or not shift)


def test_a_subject_is_described_in_ml_and_mm(study, tmp_path):
    save_challenge(tmp_path / "data", count=1)
    table = gather_cohort(study("challenge"))
    row, voxel_ml = table[table["id"] == "0"].iloc[0], np.prod(VOXEL_MM) / 1000
    assert (row["nx"], row["ny"], row["nz"]) == SHAPE
    assert (row["voxel_x_mm"], row["voxel_y_mm"], row["voxel_z_mm"]) == VOXEL_MM
    assert row["orientation"] == "LPS"
    assert row["lesion_ml"] == pytest.approx(19 * voxel_ml, abs=1e-3)
    assert row["other_pathology_ml"] == pytest.approx(2 * voxel_ml, abs=1e-3)


def test_a_wrong_split_and_a_doubled_id_of_a_table_are_named_with_their_reasons(study, tmp_path):
    save_challenge(tmp_path / "data", count=3)
    rows = [("0", "train", 0), ("1", "training", 1), ("1", "test", 2)]
    text = "".join(
        f"{name},{split},{p}/pre/FLAIR.nii.gz,{p}/pre/T1.nii.gz,{p}/wmh.nii.gz\n"
        for name, split, p in ((a, b, f"data/training/Utrecht/{k}") for a, b, k in rows)
    )
    (tmp_path / "mine.csv").write_text("id,split,flair,t1,lesions\n" + text)
    with pytest.raises(CohortError) as caught:
        gather_cohort(study("csv", "mine.csv"))
    reason = reason_of(caught.value)
    assert reason.startswith(
        "CohortError: 3 of 3 subjects cannot be used: 0: unknown split 'train'"
    )
    assert reason.count("1: the id occurs 2 times. Give every subject an id of its own.") == 2


def test_three_subjects_of_one_scanner_make_a_cohort(study, tmp_path):
    save_challenge(tmp_path / "data", count=3)
    text = "".join(
        f"p{k},GE,{p}/pre/FLAIR.nii.gz,{p}/pre/T1.nii.gz,{p}/wmh.nii.gz\n"
        for k, p in ((k, f"data/training/Utrecht/{k}") for k in range(3))
    )
    (tmp_path / "mine.csv").write_text("id,scanner,flair,t1,lesions\n" + text)
    mine = study("csv", "mine.csv")
    assert sorted(gather_cohort(mine)["split"]) == ["test", "training", "training"]
    training = of_split(read_cohort(mine.results / "cohort.csv"), "training")
    learn, validate = validation_split(training, 0.2, seed=0)
    assert len(learn) == len(validate) == 1


def test_sessions_of_a_person_may_share_a_t1(study, tmp_path):
    save_bids(tmp_path / "data", people=2, sessions=("a", "b"))
    for session in "ab":
        (tmp_path / f"data/sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz").unlink()
    shared = save(tmp_path / "data/sub-01/anat/sub-01_T1w.nii.gz", head(kind="t1", seed=9))
    with pytest.warns(UserWarning, match="sub-01_T1w.nii.gz is used as its T1w"):
        table = gather_cohort(study("bids", test_share=0.5))
    assert (table["t1"] == shared.relative_to(tmp_path).as_posix()).sum() == 2


def test_every_image_is_read_once(study, tmp_path, monkeypatch):
    save_challenge(tmp_path / "data", count=2)
    read = []
    monkeypatch.setattr(
        images, "_read", lambda path, _read=images._read: read.append(path) or _read(path)
    )
    gather_cohort(study("challenge", register_t1=True))
    assert len(read) == len(set(read)) == 9


def test_many_subjects_are_taken_in_side_by_side_to_the_same_table(study, tmp_path, monkeypatch):
    save_challenge(tmp_path / "data", count=3)
    (tmp_path / "data/training/Utrecht/1/pre/T1.nii.gz").write_bytes(b"")
    mine = study("challenge", leave_out_unusable=True)
    alone, left_out = gather_cohort(mine), read_left_out(mine.results)
    monkeypatch.setattr(check, "WORTH_PROCESSES", 1)
    assert gather_cohort(mine).equals(alone)
    assert read_left_out(mine.results).equals(left_out)


def test_a_t1_already_on_the_grid_is_used_as_it_is(study, tmp_path):
    save_challenge(tmp_path / "data", count=1)
    table = gather_cohort(study("challenge"))
    assert all("/pre/T1.nii.gz" in str(path) for path in table["t1"])
    assert not (tmp_path / "results/mine/aligned").exists()


def test_further_people_of_a_table_join_the_training_split(study, tmp_path):
    save_challenge(tmp_path / "data")
    for name in ("p1", "p2"):
        save_subject(tmp_path / f"more/{name}", seed=len(name) + ord(name[1]))
    rows = [f"{n},{n}/pre/FLAIR.nii.gz,{n}/pre/T1.nii.gz,{n}/wmh.nii.gz,here" for n in ("p1", "p2")]
    (tmp_path / "more/people.csv").write_text("\n".join(["id,flair,t1,lesions,scanner", *rows]))
    mine = study("challenge", further="more/people.csv")
    gather_cohort(mine)
    subjects = read_cohort(mine.results / "cohort.csv")
    assert [s.id for s in subjects if s.further] == ["p1", "p2"]
    assert all(s.split == "training" and s.scanner == "here" for s in subjects if s.further)
