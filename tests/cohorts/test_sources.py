"""Subjects found in the layouts they come in."""

from __future__ import annotations

import json

import pytest

from tests.cohorts.scans import save_bids, save_subject
from wmh.cohorts.bids import bids_name, find_bids
from wmh.cohorts.cohort import CohortError, Subject, validation_split
from wmh.cohorts.sources import decide_splits, find_subjects, layout_of
from wmh.cohorts.tables import find_csv


def touch(folder, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def only(found):
    assert len(found) == 1
    return found[0]


def test_layouts_are_told_apart(tmp_path):
    save_subject(tmp_path / "challenge/test/Utrecht/1")
    save_bids(tmp_path / "bids", people=1)
    (tmp_path / "table.csv").write_text("id,flair,t1,lesions\na,b,c,d\n")
    (tmp_path / "empty").mkdir()
    assert layout_of(tmp_path / "challenge") == "challenge"
    assert layout_of(tmp_path / "bids") == "bids"
    assert layout_of(tmp_path / "table.csv") == "csv"
    with pytest.raises(CohortError, match="neither the challenge's layout"):
        layout_of(tmp_path / "empty")
    with pytest.raises(CohortError, match="no such folder"):
        layout_of(tmp_path / "nowhere")


def test_the_challenge_tree_is_read_as_before(tmp_path):
    save_subject(tmp_path / "training/Amsterdam/GE3T/100")
    subject = only(find_subjects(tmp_path)).subject
    assert (subject.id, subject.split, subject.scanner) == ("100", "training", "amsterdam_ge_3t")


def test_bids_without_sessions(tmp_path):
    found = find_bids(save_bids(tmp_path, people=2))
    assert [f.subject.id for f in found] == ["sub-01", "sub-02"]
    assert all(f.problems == () for f in found)
    assert found[1].subject.flair == tmp_path / "sub-02/anat/sub-02_FLAIR.nii.gz"
    assert found[1].subject.t1 == tmp_path / "sub-02/anat/sub-02_T1w.nii.gz"
    assert found[1].subject.lesions.name == "sub-02_space-FLAIR_label-lesion_mask.nii.gz"


def test_bids_sessions_are_subjects_of_one_person(tmp_path):
    found = find_bids(save_bids(tmp_path, people=2, sessions=("base", "year1")))
    assert [f.subject.id for f in found] == [
        "sub-01_ses-base",
        "sub-01_ses-year1",
        "sub-02_ses-base",
        "sub-02_ses-year1",
    ]
    assert [f.subject.person for f in found] == ["sub-01", "sub-01", "sub-02", "sub-02"]
    assert all("ses-" in f.subject.lesions.name and not f.problems for f in found)
    assert found[1].subject.lesions.name.startswith("sub-01_ses-year1_")


def test_a_session_without_flair_or_t1_is_no_subject(tmp_path):
    save_bids(tmp_path, people=1, sessions=("a",))
    touch(tmp_path, "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz", "sub-01/ses-c/func/x.nii.gz")
    assert only(find_bids(tmp_path)).subject.id == "sub-01_ses-a"


def test_a_person_without_any_image_is_found_with_its_problems(tmp_path):
    (tmp_path / "sub-07").mkdir()
    found = only(find_bids(tmp_path))
    assert [p.problem for p in found.problems] == ["no FLAIR", "no T1w", "no lesion mask"]
    assert all("wmh predict" in p.remedy for p in found.problems)


@pytest.mark.parametrize(
    ("name", "is_mask"),
    [
        ("sub-1_label-WMH_mask.nii.gz", True),
        ("sub-1_lesions.nii", True),
        ("sub-1_desc-wml_dseg.nii.gz", True),
        ("sub-1_label-lesion_probseg.nii.gz", False),
        ("sub-1_desc-lesionfilled_T1w.nii.gz", False),
        ("sub-1_desc-brain_mask.nii.gz", False),
        ("sub-1_label-lesion_mask.json", False),
        ("sub-10_label-lesion_mask.nii.gz", False),
    ],
)
def test_lesion_masks_are_known_by_their_names(tmp_path, name, is_mask):
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz", f"derivatives/a/sub-1/anat/{name}")
    assert (only(find_bids(tmp_path)).subject.lesions is not None) == is_mask


def test_a_mask_in_the_flairs_space_is_preferred_to_one_in_a_template(tmp_path):
    masks = [f"sub-1_space-{s}_label-lesion_mask.nii.gz" for s in ("FLAIR", "MNI152NLin6Asym")]
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz", *(f"derivatives/{m}" for m in masks))
    assert only(find_bids(tmp_path)).subject.lesions.name == masks[0]


def test_ids_become_names_that_bids_allows():
    assert bids_name("p_01.b") == "sub-p01b"
    assert bids_name("sub-1_ses-a") == "sub-1_ses-a"


def test_two_images_of_a_kind_are_a_problem_with_both_names(tmp_path):
    save_bids(tmp_path, people=1)
    touch(tmp_path, "sub-01/anat/sub-01_run-2_T1w.nii.gz")
    found = only(find_bids(tmp_path))
    assert found.subject.t1 is None
    assert "sub-01_T1w.nii.gz" in found.problems[0].problem
    assert "sub-01_run-2_T1w.nii.gz" in found.problems[0].problem


@pytest.mark.parametrize(
    "name", ["sub-1_T2FLAIR.nii.gz", "sub-1_acq-3dFLAIR_T2w.nii", "sub-1_flair.nii.gz", "FLAIR.nii"]
)
def test_a_flair_that_is_not_named_as_in_bids_is_taken_and_said(tmp_path, name):
    touch(tmp_path, f"sub-1/anat/{name}", "sub-1/anat/sub-1_T1w.nii.gz")
    found = only(find_bids(tmp_path, needed=()))
    assert found.subject.flair == tmp_path / "sub-1/anat" / name
    assert found.subject.t1.name == "sub-1_T1w.nii.gz"
    assert found.warnings == (f"sub-1: {found.subject.flair} is used as its FLAIR",)
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz")  # and none where there is the right name
    found = only(find_bids(tmp_path, needed=()))
    assert found.subject.flair.name == "sub-1_FLAIR.nii.gz"
    assert found.warnings == (f"{tmp_path / 'sub-1'}: these images are not used: anat/{name}",)


def test_two_flairs_that_are_not_named_as_in_bids_are_a_problem(tmp_path):
    names = [f"sub-1_run-{run}_T2FLAIR.nii.gz" for run in (1, 2)]
    touch(tmp_path, *(f"sub-1/anat/{name}" for name in names), "sub-1/anat/sub-1_T1w.nii.gz")
    (problem,) = only(find_bids(tmp_path, needed=())).problems
    assert problem.problem == f"2 images could be its FLAIR: {', '.join(names)}"


@pytest.mark.parametrize("place", ["", "ses-c/"])
def test_the_only_t1_of_a_person_goes_to_the_sessions_that_lack_one(tmp_path, place):
    t1 = f"sub-1/{place}anat/sub-1_T1w.nii.gz"
    flairs = [f"sub-1/ses-{s}/anat/sub-1_ses-{s}_FLAIR.nii.gz" for s in "ab"]
    touch(tmp_path, t1, *flairs)
    found = find_bids(tmp_path, needed=())
    assert [one.subject.id for one in found] == ["sub-1_ses-a", "sub-1_ses-b"]
    assert [one.subject.t1 for one in found] == [tmp_path / t1] * 2
    assert found[1].warnings == (f"sub-1_ses-b: {tmp_path / t1} is used as its T1w",)


def test_of_two_t1_elsewhere_none_is_taken(tmp_path):
    t1s = [f"sub-1/ses-{s}/anat/sub-1_ses-{s}_T1w.nii.gz" for s in "bc"]
    touch(tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_FLAIR.nii.gz", *t1s)
    found = find_bids(tmp_path, needed=())
    assert [(f.subject.flair is None, f.subject.t1 is None) for f in found] == [
        *((False, True), (True, False), (True, False)),
    ]


def test_scans_that_nobody_uses_are_named(tmp_path):
    save_bids(tmp_path, people=1, sessions=("a", "b"))
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/sub-01_FLAIR.nii.gz")
    first, second = find_bids(tmp_path)
    assert first.warnings == (
        f"{tmp_path / 'sub-01'}: these images are not used: "
        "anat/sub-01_T1w.nii.gz, sub-01_FLAIR.nii.gz",
    )
    assert not second.warnings


def test_participants_are_compared_as_written_and_who_has_no_row_is_said(tmp_path):
    save_bids(tmp_path, people=2)
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tscanner\n01\tGE 3T\n2\tGE 3T\nsub-09\n")
    first, second = find_bids(tmp_path)
    assert (first.subject.scanner, first.warnings) == ("ge_3t", ())
    assert (second.subject.scanner, second.warnings) == (
        "unknown",
        (f"{table}: has no row for sub-02",),
    )
    table.write_text("participant_id\tsplit\nsub-01\ttest\tmore\n")
    with pytest.raises(CohortError, match="line 2: the row has more cells"):
        find_bids(tmp_path)
    table.write_text("participant_id\tsplit\nsub-01\ttest\nsub-01\ttraining\n")
    with pytest.raises(CohortError, match="line 3: contradicts another row about 01"):
        find_bids(tmp_path)
    assert find_bids(tmp_path, needed=())


def test_participants_and_sidecars_say_split_and_scanner(tmp_path):
    save_bids(tmp_path, people=3)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsplit\tscanner\nsub-01\t70\ttest\tGE 3T\nsub-02\t71\ttraining\tn/a\n"
        "sub-03\t72\tvalid\tn/a\n"
    )
    facts = {
        "Manufacturer": "Siemens",
        "ManufacturersModelName": "Prisma",
        "MagneticFieldStrength": 3,
    }
    (tmp_path / "sub-02/anat/sub-02_FLAIR.json").write_text(json.dumps(facts))
    first, second, third = find_bids(tmp_path)
    assert (first.subject.split, first.subject.scanner) == ("test", "ge_3t")
    assert (second.subject.split, second.subject.scanner) == ("training", "siemens_prisma_3t")
    assert third.subject.scanner == "unknown"
    assert "unknown split 'valid'" in third.problems[0].problem


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_with_a_header_row(tmp_path, separator):
    lines = [
        "\ufeffID,FLAIR,T1,Lesions,Split,Scanner,Age",
        "p1,a/f.nii.gz,a/t.nii.gz,a/l.nii.gz,test,GE 1.5T,70",
        "",
        "p2,/abs/f.nii.gz, b.nii ,m.nii,training,,71",
    ]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(lines).replace(",", separator), encoding="utf-8")
    first, second = find_csv(table)
    assert first.subject == Subject(
        "p1",
        "test",
        "ge_1_5t",
        tmp_path / "a/f.nii.gz",
        tmp_path / "a/t.nii.gz",
        tmp_path / "a/l.nii.gz",
    )
    assert second.subject.flair.as_posix() == "/abs/f.nii.gz"
    assert second.subject.t1 == tmp_path / "b.nii"
    assert second.subject.scanner == "unknown"


def test_a_table_without_its_header_row_says_what_it_needs(tmp_path):
    (tmp_path / "t.csv").write_text("p1,f.nii.gz,t.nii.gz,l.nii.gz\n")
    with pytest.raises(CohortError, match=r"t\.csv: no column id, flair, t1, lesions"):
        find_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(CohortError, match="no column id"):
        find_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"\x1f\x8b\xff\xfe\x00")
    with pytest.raises(CohortError, match="not a text table"):
        find_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").rename(tmp_path / "t.nii.gz")
    with pytest.raises(CohortError, match="Give a single scan with --flair"):
        find_csv(tmp_path / "t.nii.gz")
    (tmp_path / "t.csv").write_text("id,flair,t1,lesions\n")
    with pytest.raises(CohortError, match="no subjects found"):
        find_subjects(tmp_path / "t.csv")


def test_problems_of_a_tables_row(tmp_path):
    (tmp_path / "t.csv").write_text("id,flair,t1,lesions\n../p1,f.nii,,\n")
    problems = [p.problem for p in only(find_csv(tmp_path / "t.csv")).problems]
    assert problems == ["no t1", "no lesions", "the id '../p1' cannot be used as a file name"]


def test_a_row_too_short_or_too_long_is_a_problem_of_its_own(tmp_path):
    (tmp_path / "t.csv").write_text(
        "flair,t1,lesions,id\nf.nii,t.nii,l.nii,p1\nf2.nii,n/a,NA\nf3.nii,t3.nii,l,3.nii,p3\n"
    )
    whole, short, long = find_csv(tmp_path / "t.csv")
    assert not whole.problems
    assert short.subject.id == "line 3"
    assert [p.problem for p in short.problems] == ["no t1", "no lesions", "no id"]
    assert "more cells than" in only(long.problems).problem


def test_excels_first_line_names_the_separator(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\r\nid;flair;t1\r\n001;a,b.nii;-\r\n")
    subject = only(find_csv(tmp_path / "t.csv", needed=())).subject
    assert (subject.id, subject.flair, subject.t1) == ("001", tmp_path / "a,b.nii", None)


def test_a_home_in_a_path_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "t.csv").write_text("id,flair,t1\np1,~/f.nii,~nobody_here/t.nii\n")
    subject = only(find_csv(tmp_path / "t.csv", needed=())).subject
    assert subject.flair.as_posix() == "/home/me/f.nii"
    assert subject.t1 == tmp_path / "~nobody_here/t.nii"


def test_a_quotation_mark_without_its_partner_and_a_doubled_column_are_refused(tmp_path):
    for text, message in (
        ('id,flair\np1,"f.nii\np2,g.nii\n', "every quotation mark is closed"),
        ("id,flair,Flair\n", "two columns have the name flair"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(CohortError, match=message):
            find_csv(tmp_path / "t.csv", needed=())


def subjects(count: int, sessions: int = 1, split: str = "") -> list[Subject]:
    return [
        Subject(f"sub-{k}_ses-{s}", split, "ge" if k % 2 else "philips", None, None)
        for k in range(count)
        for s in range(sessions)
    ]


def test_splits_are_drawn_by_scanner_and_keep_people_together():
    decided = decide_splits(subjects(10, sessions=3), 0.4, seed=1)
    people = {
        split: {s.person for s in decided if s.split == split} for split in ("training", "test")
    }
    assert len(people["test"]) == 4 and len(people["training"]) == 6
    assert not people["test"] & people["training"]
    for scanner in ("ge", "philips"):
        assert len({s.person for s in decided if s.split == "test" and s.scanner == scanner}) == 2
    assert decided == decide_splits(subjects(10, sessions=3), 0.4, seed=1)
    assert decided != decide_splits(subjects(10, sessions=3), 0.4, seed=2)


def test_splits_that_are_known_stay_and_half_known_ones_are_refused():
    known = subjects(4, split="test")
    assert decide_splits(known, 0.5, seed=1) == known
    with pytest.raises(CohortError, match="2 of 6 subjects have no split"):
        decide_splits(known + subjects(2), 0.5, seed=1)


def test_further_people_leave_the_splits_of_the_others_to_be_drawn():
    further = [Subject("p1", "training", "here", None, None, further=True)]
    decided = decide_splits([*subjects(4), *further], 0.5, seed=1)
    assert decided == [*decide_splits(subjects(4), 0.5, seed=1), *further]


def test_validation_takes_all_sessions_of_a_person():
    learn, validate = validation_split(subjects(6, sessions=2, split="training"), 0.3, seed=3)
    assert not {s.person for s in learn} & {s.person for s in validate}
    assert len(learn) + len(validate) == 12


def test_prediction_asks_for_one_scan_and_no_mask(tmp_path):
    save_bids(tmp_path, people=3)
    (tmp_path / "sub-01/anat/sub-01_T1w.nii.gz").unlink()
    for kind in ("FLAIR", "T1w"):
        (tmp_path / f"sub-02/anat/sub-02_{kind}.nii.gz").unlink()
    touch(tmp_path, "sub-03/anat/sub-03_run-2_T1w.nii.gz")
    flair_alone, nothing, doubtful = find_subjects(tmp_path, needed=())
    assert flair_alone.subject.flair is not None and flair_alone.subject.t1 is None
    assert flair_alone.subject.lesions is None and not flair_alone.problems
    assert [p.problem for p in nothing.problems] == ["no FLAIR and no T1w"]
    assert "2 images could be its T1w" in only(doubtful.problems).problem


def test_prediction_from_a_table_needs_one_column_of_scans(tmp_path):
    (tmp_path / "t.csv").write_text("id,t1\np1,a.nii\np2,\n")
    first, second = find_subjects(tmp_path / "t.csv", needed=())
    assert first.subject.t1 == tmp_path / "a.nii" and not first.problems
    assert [p.problem for p in second.problems] == ["no flair and no t1"]
    (tmp_path / "t.csv").write_text("id,t2\np1,a.nii\n")
    with pytest.raises(CohortError, match=r"no column flair or t1.*id, and flair, t1 or both"):
        find_subjects(tmp_path / "t.csv", needed=())


def test_what_wmh_predicted_is_not_taken_for_the_truth(tmp_path):
    save_bids(tmp_path, people=1)
    own = tmp_path / "derivatives/predicted"
    touch(tmp_path, "derivatives/predicted/sub-01/anat/sub-01_label-WMH_mask.nii.gz")
    assert only(find_bids(tmp_path)).problems
    (own / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "wmh"}]}')
    found = only(find_bids(tmp_path))
    assert not found.problems and "manual" in found.subject.lesions.parts


def test_a_source_that_is_another_is_told_what_was_expected(tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("id,flair,t1,lesions\n")
    with pytest.raises(CohortError, match=r"\.csv: no subjects found\. A BIDS folder holds sub-"):
        find_subjects(table, "bids")
    with pytest.raises(CohortError, match=r"people\.csv: no subjects found\. A table has one row"):
        find_subjects(table, "csv")
    with pytest.raises(CohortError, match=r"is a folder\. Name the table in it"):
        find_subjects(tmp_path, "csv")
