"""Every problem that a user's files may have is found, named and given a remedy."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from tests.cohorts.scans import (
    SHAPE,
    VOXEL_MM,
    head,
    lesions,
    oblique,
    save,
    save_bids,
    save_subject,
)
from wmh.cohorts import check
from wmh.cohorts.check import as_json, as_text, check_path, repair_masks
from wmh.cohorts.tables import find_csv

FLAIR, T1, MASK = "pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"


@pytest.fixture(autouse=True)
def not_looked_at(request, monkeypatch):
    """These heads are blobs; what is said of pictures stands in test_plausible.py."""
    if "look_wrong" not in request.node.name:
        monkeypatch.setattr(check, "notices", lambda images: ())


@pytest.fixture
def subject(tmp_path):
    """A usable subject of a challenge tree that simulated subjects stand in."""
    folder = save_subject(tmp_path / "training/Utrecht/0")
    save(folder / "regions.nii.gz", lesions())
    return folder


def root(subject):
    return subject.parents[2]


def problems(subject) -> list[str]:
    return [str(p) for row in check_path(root(subject)).rows for p in row.problems]


def raw_header(path, **fields) -> None:
    """Change fields of a NIfTI header in the file, whatever they then mean."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(content, dtype=nib.Nifti1Header().structarr.dtype, count=1)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(gzip.compress(bytes(content)))


def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_nifti(path):
    path.write_bytes(gzip.compress(b"DICM" * 2000))


def four_d(path):
    save(path, np.stack([head()] * 2, axis=-1))


def not_a_number(path):
    data = head()
    data[3, 3, 3], data[4, 4, 4] = np.nan, np.inf
    save(path, data)


def all_zeros(path):
    save(path, np.zeros(SHAPE, np.float32))


def no_orientation(path):
    raw_header(path, qform_code=0, sform_code=0)


def not_invertible(path):
    raw_header(path, srow_x=[0, 0, 0, 0], qform_code=0)


def absurd_voxel(path):
    affine = oblique()
    affine[:3, :3] *= 100
    save(path, head(), affine)


def disagreeing_forms(path):
    image = nib.load(path)
    mirrored = image.affine @ np.diag([-1, 1, 1, 1])
    mirrored[:3, 3] += image.affine[:3, 0] * (SHAPE[0] - 1)
    image = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    image.set_sform(image.affine, 1)
    image.set_qform(mirrored, 1)
    nib.save(image, path)


def elsewhere(path):
    affine = oblique(shift=(0.0, 0.0, 900.0))
    save(path, head(), affine)


SPOILED_SCANS = [
    (missing, "no such file", "Check the path"),
    (empty, "the file is empty (0 bytes)", "Copy or download it again"),
    (truncated, "cannot be read to its end", "copy it again"),
    (no_nifti, "not a NIfTI image", "dcm2niix"),
    (four_d, "has 4 dimensions", "Save the one 3-D volume"),
    (not_a_number, "2 voxels are NaN or infinite", "Replace them"),
    (all_zeros, "every voxel is 0", "Export the image again"),
    (
        no_orientation,
        "the header does not give the orientation",
        "Convert the image again from DICOM",
    ),
    (not_invertible, "affine cannot be inverted", "Convert the image again from DICOM"),
    (absurd_voxel, "is impossible for a head scan", "Check the units in the header"),
    (
        disagreeing_forms,
        "qform and sform disagree on left and right",
        "Find out which of the two is right",
    ),
]


def test_a_good_subject_has_no_problem(subject):
    report = check_path(root(subject))
    (row,) = report.rows
    assert report.usable and row.usable and row.warnings == ()
    assert row.present == ("FLAIR", "T1", "lesions")
    assert row.shape == SHAPE and row.orientation == "LPS"
    assert row.voxel_size_mm == VOXEL_MM
    voxel_ml = np.prod(VOXEL_MM) / 1000
    assert row.lesion_ml == pytest.approx(19 * voxel_ml, abs=1e-3)
    assert row.other_pathology_ml == pytest.approx(2 * voxel_ml, abs=1e-3)


@pytest.mark.parametrize("image", [FLAIR, T1])
@pytest.mark.parametrize(("spoil", "problem", "remedy"), SPOILED_SCANS)
def test_a_spoiled_scan_is_named_with_its_problem_and_remedy(
    subject, image, spoil, problem, remedy
):
    spoil(subject / image)
    report = check_path(root(subject))
    (row,) = report.rows
    (found,) = [p for p in row.problems if p.file == str(subject / image)]
    assert not report.usable
    assert problem in found.problem and remedy in found.remedy


@pytest.fixture
def lock(monkeypatch):
    """A function that takes away a file's permission to be read, from an administrator too."""

    def locked(path):
        path.chmod(0)
        if not os.access(path, os.R_OK):
            return
        opened = io.open

        def refuse(file, *arguments, **keywords):
            if str(file) == str(path):
                raise PermissionError(13, "Permission denied", str(file))
            return opened(file, *arguments, **keywords)

        monkeypatch.setattr(io, "open", refuse)
        monkeypatch.setattr(builtins, "open", refuse)

    return locked


@pytest.mark.parametrize("image", [FLAIR, T1, MASK])
def test_a_file_that_may_not_be_read_is_named_as_such(subject, lock, image):
    lock(subject / image)
    (found,) = problems(subject)
    assert found.startswith(f"{subject / image}: you have no permission to read it")
    assert "chmod" in found


def test_scans_that_do_not_overlap(subject):
    elsewhere(subject / T1)
    assert "T1.nii.gz: holds only 0% of the head in" in problems(subject)[0]


def mask_on_another_grid(path):
    save(path, lesions(), oblique(shift=(3.0, 0, 0)))


def mask_of_another_shape(path):
    save(path, lesions()[:-1])


def mask_of_0_and_255(path):
    save(path, ((lesions() == 1) * 255).astype(np.uint8))


def mask_with_other_labels(path):
    save(path, lesions() * 3)


def mask_of_probabilities(path):
    save(path, lesions() * 0.4)


def mask_outside_the_head(path):
    data = np.zeros(SHAPE, np.uint8)
    data[:2, :2, :2] = data[11:13, 14:16, 6] = 1
    save(path, data)


@pytest.mark.parametrize(
    ("spoil", "problem", "remedy"),
    [
        (mask_on_another_grid, "lies on another grid than", "nearest neighbour"),
        (mask_of_another_shape, "lies on another grid than", "nearest neighbour"),
        (mask_of_0_and_255, "labels 255 are not allowed", "Divide the mask by 255"),
        (mask_with_other_labels, "labels 3, 6 are not allowed", "Allowed are 0, 1, 2"),
        (mask_of_probabilities, "not whole numbers", "threshold them"),
        (mask_outside_the_head, "67% of the lesion volume lies outside the head", "flipped"),
        (missing, "no such file", "Check the path"),
        (truncated, "cannot be read to its end", "copy it again"),
        (empty, "the file is empty", "Copy or download it again"),
        (not_a_number, "labels are NaN", "Save the labels as integers"),
    ],
)
def test_a_spoiled_mask_is_named_with_its_problem_and_remedy(subject, spoil, problem, remedy):
    spoil(subject / MASK)
    (found,) = problems(subject)
    assert found.startswith(str(subject / MASK)) and problem in found and remedy in found


def test_an_empty_mask_is_a_subject_without_lesions(subject):
    save(subject / MASK, np.zeros(SHAPE, np.uint8))
    (row,) = check_path(root(subject)).rows
    assert row.usable and row.lesion_ml == 0


def test_every_problem_of_a_subject_is_reported_at_once(subject):
    missing(subject / FLAIR), four_d(subject / T1), mask_with_other_labels(subject / MASK)
    assert len(problems(subject)) == 3


def test_an_id_that_occurs_twice_and_in_both_splits(subject):
    shutil.copytree(subject, root(subject) / "test/Singapore/0")
    found = problems(subject)
    assert sum("0: the id occurs 2 times" in p for p in found) == 2
    assert sum("0: the person is in both splits" in p for p in found) == 2


def test_sessions_of_one_person_in_both_splits(tmp_path):
    save_bids(tmp_path, people=1, sessions=("a", "b"))
    rows = [
        f"sub-01_ses-{s},sub-01/ses-{s}/anat/sub-01_ses-{s}_FLAIR.nii.gz,"
        f"sub-01/ses-{s}/anat/sub-01_ses-{s}_T1w.nii.gz,derivatives/manual/sub-01/ses-{s}/anat/"
        f"sub-01_ses-{s}_space-FLAIR_label-lesion_mask.nii.gz,{split}"
        for s, split in (("a", "training"), ("b", "test"))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["id,flair,t1,lesions,split", *rows]))
    found = [p.problem for row in check_path(tmp_path / "t.csv").rows for p in row.problems]
    assert found == ["the person is in both splits"] * 2
    assert check_path(tmp_path).usable  # no split is said, so none is wrong


@pytest.mark.parametrize("image", [FLAIR, MASK])
def test_one_picture_under_two_names_however_it_was_compressed(subject, image):
    other = save_subject(subject.parent / "2", seed=1)
    save(other / "regions.nii.gz", lesions())
    (other / image).write_bytes(
        gzip.compress(gzip.decompress((subject / image).read_bytes()), compresslevel=1)
    )
    found = problems(subject)
    assert len(found) == 2
    assert f"{subject / image}: is the same image as {other / image} of subject 2" in found[0]
    assert f"{other / image}: is the same image as {subject / image} of subject 0" in found[1]


def test_one_file_for_two_subjects_and_a_t1_that_is_the_flair(tmp_path):
    save_subject(tmp_path)
    rows = f"a,{FLAIR},{T1},{MASK}\nb,{FLAIR},{FLAIR},{MASK}\n"
    (tmp_path / "t.csv").write_text(f"id,flair,t1,lesions\n{rows}")
    first, second = check_path(tmp_path / "t.csv").rows
    assert {p.problem.rpartition(" of ")[2] for p in first.problems} == {"subject b"}
    assert len(first.problems) == 2 and len(second.problems) == 2


def test_a_t1_on_another_grid_is_fine_and_its_offset_is_measured(subject):
    shape, voxel = (30, 36, 30), (6.0, 6.0, 6.0)
    save(subject / T1, head(shape, oblique(shape, voxel, -4), "t1", 5), oblique(shape, voxel, -4))
    (row,) = check_path(root(subject)).rows
    assert row.usable and row.warnings == () and row.t1_offset_mm < 3


def test_headers_that_look_wrong_are_a_warning(subject):
    shape, voxel = (30, 36, 30), (6.0, 6.0, 6.0)
    data = head(shape, oblique(shape, voxel, -4), "t1", 5)
    save(subject / T1, data, oblique(shape, voxel, -4, shift=(0.0, 25.0, 0.0)))
    report = check_path(root(subject))
    (row,) = report.rows
    assert row.usable and row.t1_offset_mm == pytest.approx(25, abs=4)
    assert f"the T1 lies {row.t1_offset_mm:.0f} mm off" in "".join(row.warnings)
    assert "cohort.register_t1: true" in as_text(report)


def test_the_challenge_is_compared_with_its_known_subjects(tmp_path):
    for identity in ("0", "2"):
        save_subject(tmp_path / f"training/Utrecht/{identity}", seed=int(identity))
    save_subject(tmp_path / "test/Utrecht/4", seed=4)  # a training subject
    save_subject(tmp_path / "test/Utrecht/999", seed=5)
    report = check_path(tmp_path)
    assert len(report.missing) == 170 - 2
    assert "training/Utrecht/4" in report.missing
    assert "test/Amsterdam/Philips_VU_PETMR_01/160" in report.missing
    found = {row.subject.id: [p.problem for p in row.problems] for row in report.rows}
    assert found["4"] == ["lies in test/, but is a training subject of the challenge"]
    assert found["0"] == []
    text = as_text(report)
    assert "999: the challenge has no subject with this id" in text
    assert "does not have the challenge's grid of 240 x 240 x 48 voxels" in text
    assert "Missing subjects of the challenge (168)" in text and not report.usable


def test_a_split_that_was_not_fetched_is_not_missing(tmp_path):
    save_subject(tmp_path / "training/Utrecht/0")
    assert len(check_path(tmp_path).missing) == 59


def test_the_text_shows_a_table_the_remedies_and_a_verdict(subject):
    other = save_subject(subject.parent / "2", seed=1)
    mask_with_other_labels(other / MASK)
    text = as_text(check_path(root(subject)))
    assert "24 x 28 x 12" in text and "8 x 7 x 12" in text and "LPS" in text
    assert "Allowed are 0, 1, 2" in text
    assert "1 of 2 subjects can be used." in text


def test_json_says_the_same(subject):
    four_d(subject / T1)
    content = json.loads(as_json(check_path(root(subject))))
    assert content["usable"] is False and content["layout"] == "challenge"
    (row,) = content["subjects"]
    assert row["id"] == "0" and row["usable"] is False and row["shape"] == list(SHAPE)
    assert row["problems"][0]["file"] == str(subject / T1)
    assert set(row["problems"][0]) == {"file", "problem", "remedy"}


def test_repair_writes_0_1_copies_and_a_table_and_leaves_the_originals(subject, tmp_path):
    mask_of_0_and_255(subject / MASK)
    before = (subject / MASK).read_bytes()
    report = check_path(root(subject))
    assert "--repair FOLDER" in as_text(report)
    table = repair_masks(report, tmp_path / "repaired")
    assert (subject / MASK).read_bytes() == before
    again = check_path(table)
    assert again.usable
    (found,) = find_csv(table)
    assert found.subject.split == "training" and found.subject.scanner == "utrecht_philips_3t"
    repaired = nib.load(found.subject.lesions)
    assert np.array_equal(np.asanyarray(repaired.dataobj), lesions() == 1)
    assert np.allclose(repaired.affine, nib.load(subject / MASK).affine, atol=1e-4)
