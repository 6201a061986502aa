"""One person's scan, from files to files."""

import json
from dataclasses import replace
from importlib.metadata import version
from platform import python_version

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.predict.conftest import write_scan
from wmh.images import Image, ImageError
from wmh.learning.inference import predict_prepared
from wmh.learning.models import CheckpointError
from wmh.predict import scan
from wmh.predict.derivatives import LABEL_IMAGE, Place, write_derivatives
from wmh.predict.predictor import Predictor, ScanPrediction, lesions_labelled
from wmh.predict.report import slices_of, write_report
from wmh.predict.scan import predict_scan
from wmh.settings import Evaluation


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASR"])
def test_results_lie_exactly_on_the_flairs_grid(study, tmp_path, codes):
    flair = write_scan(tmp_path / "flair.nii.gz", codes)
    t1 = write_scan(tmp_path / "t1.nii.gz", "RAS", (2.0, 2.0, 3.0), (45, 54, 9))
    written = predict_scan(study, tmp_path / "out", flair=flair, t1=t1)
    assert {path.name for path in written.paths} == {
        "lesions.nii.gz",
        "probability.nii.gz",
        "regions.nii.gz",
        "burden.csv",
        "overview.png",
        "report.html",
    }
    given = nib.load(flair)
    for name in ("lesions", "probability", "regions"):
        result = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert result.shape == given.shape
        np.testing.assert_allclose(result.affine, given.affine, atol=1e-5)
    burden = pd.read_csv(tmp_path / "out" / "burden.csv")
    lesions = nib.load(tmp_path / "out" / "lesions.nii.gz").get_fdata()
    regions = nib.load(tmp_path / "out" / "regions.nii.gz").get_fdata()
    voxel_ml = abs(np.linalg.det(given.affine[:3, :3])) / 1000
    inside = ((lesions == 1) & (regions > 0)).sum() * voxel_ml
    assert burden["lesion_ml"].sum() == pytest.approx(inside, rel=1e-5)


def test_the_page_names_the_code_that_trained_the_models(study, tmp_path):
    predict_scan(study, tmp_path / "out", flair=write_scan(tmp_path / "flair.nii.gz"))
    page = (tmp_path / "out" / "report.html").read_text()
    code = (
        f"trained with wmh {version('wmh')}, torch {version('torch')} and Python {python_version()}"
    )
    assert page.count(f"{code}, commit <code>0123456789</code> with uncommitted changes") == 2


def test_one_image_is_enough_and_the_originals_stay_as_they_are(study, tmp_path):
    flair = write_scan(tmp_path / "flair.nii.gz")
    before = flair.read_bytes()
    predict_scan(study, tmp_path / "out", flair=flair)
    assert flair.read_bytes() == before


def test_a_scan_unlike_the_training_scans_is_said_to_be(general_model, tmp_path, capsys):
    flair = write_scan(tmp_path / "flair.nii.gz", voxel=(1.5, 1.5, 6.0))  # 1.5 mm in training
    predict_scan(None, tmp_path / "out", flair=flair)
    said = capsys.readouterr().err
    assert "the scan is unlike the training scans: FLAIR" in said
    assert f"see {tmp_path / 'out/report.html'}" in said
    assert "unlike the training data" in (tmp_path / "out/report.html").read_text()


def test_an_image_that_no_model_answers_from_is_named(study, tmp_path):
    t1 = write_scan(tmp_path / "t1.nii.gz")
    with pytest.raises(CheckpointError, match="no lesions model can predict from T1 alone"):
        predict_scan(study, tmp_path / "out", t1=t1)


def test_images_that_do_not_overlap_are_named(study, tmp_path):
    flair, t1 = write_scan(tmp_path / "flair.nii.gz"), write_scan(tmp_path / "t1.nii.gz")
    moved = nib.load(t1)
    moved.affine[:3, 3] += 900
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), moved.affine), tmp_path / "far.nii.gz")
    with pytest.raises(
        ImageError, match=r"far\.nii\.gz: holds only 0% of the head in .*flair\.nii\.gz"
    ):
        predict_scan(study, tmp_path / "out", flair=flair, t1=tmp_path / "far.nii.gz")


def test_a_full_disk_leaves_nothing_half_written(study, tmp_path, monkeypatch):
    flair = write_scan(tmp_path / "flair.nii.gz")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wmh.predict.report.write_report", full)
    with pytest.raises(OSError, match="No space left"):
        predict_scan(study, tmp_path / "out", flair=flair)
    assert [path.name for path in tmp_path.iterdir()] == ["flair.nii.gz"]


def test_an_answer_that_is_no_number_is_not_written(study, tmp_path, monkeypatch):
    def nan(*given):
        found = predict_prepared(*given)
        return replace(found, probability=np.full(found.like.data.shape, np.nan))

    monkeypatch.setattr("wmh.predict.predictor.predict_prepared", nan)
    with pytest.raises(ImageError, match=r"flair\.nii\.gz: .*NaN or infinite"):
        predict_scan(study, tmp_path / "out", flair=write_scan(tmp_path / "flair.nii.gz"))
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_named_before_any_work(study, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ImageError, match="out: is a file, not a folder"):
        predict_scan(study, tmp_path / "out", flair=tmp_path / "not_even_read.nii.gz")


def test_nothing_given_is_an_error(study, tmp_path):
    with pytest.raises(ImageError, match="no image given"):
        predict_scan(study, tmp_path / "out")


def test_the_study_says_whether_images_are_also_mirrored(study, tmp_path):
    given = {"FLAIR": write_scan(tmp_path / "flair.nii.gz")}
    ways = [Evaluation(), Evaluation(mirroring=True), Evaluation(bootstrap_samples=7)]
    predictors = [Predictor(study.model_copy(update={"evaluation": way}), 1) for way in ways]
    plain, mirrored, same = (predictor.fingerprint(given) for predictor in predictors)
    assert plain == same != mirrored
    plain, mirrored, same = (predictor.predict(given) for predictor in predictors)
    np.testing.assert_array_equal(plain.probability, same.probability)
    assert np.abs(plain.probability - mirrored.probability).max() > 0.01
    one_model = replace(mirrored, region_model=mirrored.lesion_model)
    for number, (predictor, found, lesions, regions, words) in enumerate(
        (
            (predictors[0], plain, False, False, "none</dd>"),
            (predictors[1], mirrored, True, False, "lesion probabilities, but not regions, are av"),
            (predictors[1], one_model, True, True, "predictions are averaged with those from im"),
        )
    ):
        place = Place(tmp_path / str(number), "sub-1")
        write_derivatives(found, place, given, tmp_path, "")
        assert place.read_record()["AveragedWithMirrored"] is lesions
        of_regions = json.loads(place.file(LABEL_IMAGE, ".json").read_text())
        assert of_regions["AveragedWithMirrored"] is regions
        page = write_report(place.report, "sub-1", found, predictor).read_text()
        assert f"<dt>Mirroring</dt><dd>{words}" in page


def prediction_with(lesions: np.ndarray) -> ScanPrediction:
    """A prediction whose left half is a region and whose right half is none."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    regions = np.zeros((20, 20, 10), np.uint8)
    regions[:10] = 12
    head = Image(np.full(regions.shape, 100.0, np.float32), affine)
    images = {"FLAIR": head}
    masks = (Image(lesions, affine), Image(regions, affine))
    return ScanPrediction(images, images, head, lesions * 1.0, *masks, None, None, 0.5, False)


def test_lesions_near_a_region_belong_to_it():
    regions = np.zeros((12, 4, 4), np.uint8)
    regions[:3], regions[9:] = 7, 24
    mask = np.zeros_like(regions)
    mask[3:10, 1, 1] = 1
    filled = lesions_labelled(regions, Image(mask, np.diag([2.0, 2, 2, 1])))
    assert filled[:, 1, 1].tolist() == [7, 7, 7, 7, 7, 0, 0, 24, 24, 24, 24, 24]
    assert np.array_equal(np.delete(filled, 1, axis=1), np.delete(regions, 1, axis=1))


@pytest.mark.parametrize(("outside", "doubted"), [(0, False), (4, False), (8, True)])
def test_much_lesion_outside_the_regions_is_warned_of(outside, doubted):
    lesions = np.zeros((20, 20, 10), np.uint8)
    lesions[5, :6, :10] = 1  # 60 voxels of 0.008 ml in the region
    lesions[15, :outside, 0] = 1
    found = prediction_with(lesions)
    assert found.outside_ml == pytest.approx(0.008 * outside)
    assert bool(found.notices) == doubted
    if doubted:
        assert found.notices[0].startswith("0.1 of 0.5 ml of lesion lie outside the 34")


def test_what_a_t1_alone_shows_is_warned_of():
    found = prediction_with(np.zeros((20, 20, 10), np.uint8))
    assert found.notices == ()
    (notice,) = replace(found, originals={"T1": found.originals["FLAIR"]}).notices
    assert notice.startswith("a T1 alone hardly shows these lesions")


def test_a_page_opens_at_the_slice_with_most_lesion_in_the_brain():
    lesions = np.zeros((20, 20, 10), np.uint8)
    lesions[12:, :, 1] = 1  # outside
    lesions[5, 5, 6] = 1
    assert slices_of(prediction_with(lesions)).fullest == 6
    lesions[5, 5, 6] = 0
    assert slices_of(prediction_with(lesions)).fullest == 0  # all slices hold as much brain


def test_a_lesion_mask_that_is_not_there_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "load_general", None)
    with pytest.raises(ImageError, match=r"mask\.nii\.gz: no such file"):
        scan.label_by_model(tmp_path / "out.nii.gz", {}, tmp_path / "mask.nii.gz")
