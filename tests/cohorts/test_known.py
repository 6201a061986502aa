"""The challenge's 170 subjects, and their folders under names that every system can store."""

from wmh.cohorts.known import known_subjects, local_path, missing_subjects


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
