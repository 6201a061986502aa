"""Labels of a cohort: files, tables, going on, and what is flagged."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.atlas.heads import displacement, moved
from wmh.atlas import labelling
from wmh.atlas.regions import REGION_LABELS, region_dice
from wmh.atlas.tissue import white_matter
from wmh.cohorts.cohort import Subject
from wmh.images import ImageError, load_image, load_labels, save_image
from wmh.settings import CohortSettings, RegionSettings
from wmh.study import Study


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Subject:
    """One subject on disk whose white matter is known, so that no segmentation is needed."""
    folder = tmp_path_factory.mktemp("subject")
    t1, white, truth = moved(displacement((5, 4, -6), (10, 5, -8), (0.95, 1, 0.9)))
    segmentation = np.where(truth.data >= 35, 0, np.where(white.data > 0.5, 44, 0))
    save_image(folder / "T1.nii.gz", t1.data, t1)
    save_image(folder / "FLAIR.nii.gz", t1.data + 1, t1)
    save_image(folder / "T1_seg.nii.gz", segmentation.astype(np.uint8), t1)
    true = np.where(segmentation > 0, truth.data, 0)
    save_image(folder / "regions.nii.gz", true, t1)
    lesions = np.zeros(true.shape, np.uint8)
    lesions[tuple(np.argwhere(true == 12)[0] + (0, 0, 1))] = 1
    lesions[tuple(np.argwhere(t1.data > 0)[0])] = 1  # a lesion that is no white matter on the T1
    save_image(folder / "wmh.nii.gz", lesions, t1)
    files = (folder / f"{name}.nii.gz" for name in ("FLAIR", "T1", "wmh", "regions"))
    return Subject("7", "test", "utrecht_philips_3t", *files)


def study_of(atlas: str, **settings) -> Study:
    """A study with an atlas."""
    return Study(
        name="mine",
        title="Mine",
        cohort=CohortSettings(source="challenge", folder="data"),
        models={"flair": {"task": "lesions", "inputs": "flair", "steps": 1}},
        regions=RegionSettings(atlas=atlas, **settings),
    )


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Every test in a project of its own."""
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def labelled(subject, tmp_path_factory):
    """The project that the subject was labelled in, and what came of it."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMH_ROOT", str(root))
        return root, labelling.label_subject(study_of("built-in"), subject)


def test_a_subject_is_labelled_on_its_own_grid_and_measured(subject, labelled):
    root, row = labelled
    labels = load_labels(root / "results/mine/regions/7.nii.gz")
    truth, lesions = load_labels(subject.true_regions), load_labels(subject.lesions)
    assert np.allclose(labels.affine, truth.affine, atol=1e-4)
    assert labels.header["qform_code"] > 0 and labels.header["sform_code"] > 0
    assert labels.header.get_xyzt_units()[0] == "mm"
    assert labels.data[lesions.data == 1].all()
    white = white_matter(load_image(subject.t1), lesions=lesions)
    assert np.array_equal(labels.data > 0, white.data > 0)
    dice = [r["dice"] for r in row["regions"] if r["region"] in REGION_LABELS]
    assert np.mean(dice) > 0.85
    volume = sum(r["ml"] for r in row["regions"])
    assert volume == pytest.approx(np.count_nonzero(labels.data) * labels.voxel_ml)


def test_a_finished_subject_is_not_done_again_unless_something_changed(
    subject, labelled, monkeypatch
):
    root, first = labelled
    monkeypatch.setenv("WMH_ROOT", str(root))
    monkeypatch.setattr(labelling, "load_image", lambda path: 1 / 0)
    study = study_of("built-in")
    assert labelling.label_subject(study, subject) == first
    for changed in (study.model_copy(update={"seed": 6}), study_of("built-in", method="paper")):
        with pytest.raises(ZeroDivisionError):
            labelling.label_subject(changed, subject)
    other = root / "other.nii.gz"
    other.write_bytes(subject.lesions.read_bytes() + b"0")
    with pytest.raises(ZeroDivisionError):
        labelling.label_subject(study, replace(subject, lesions=other))


def test_an_unfinished_record_is_not_taken_for_a_finished_one(subject):
    study = study_of("known")
    first = labelling.label_subject(study, subject)
    labels = study.region_labels("7")
    labels.unlink()
    again = labelling.label_subject(study, subject)
    assert labels.is_file()
    assert again == first == json.loads(labels.with_name("7.json").read_text())


def test_known_regions_are_the_subjects_own_or_none(subject):
    study = study_of("known")
    assert labelling.label_subject(study, subject)["fit"] == {}
    labels = study.region_labels("7")
    assert np.array_equal(load_labels(labels).data, load_labels(subject.true_regions).data)
    labelling.label_subject(study, replace(subject, true_regions=None))
    assert not load_labels(labels).data.any()


def test_published_labels_of_another_grid_are_refused(subject, root):
    labels = load_labels(subject.true_regions)
    save_image(root / "else.nii.gz", labels.data[1:], replace(labels, data=labels.data[1:]))
    with pytest.raises(ImageError, match=r"lie on another grid than .*FLAIR"):
        labelling.label_subject(study_of("published"), subject, root / "else.nii.gz")


def test_a_study_with_published_labels_from_end_to_end(subject):
    study = study_of("published")
    fits, volumes = labelling.label_cohort(study, [subject], {"7": subject.true_regions})
    assert fits.loc[0, "mean_region_dice"] == 1
    assert fits["white_matter_dice"].isna().all() and not fits["outlier"].any()
    assert len(volumes) == 36
    taken = load_labels(study.region_labels("7"))
    assert np.array_equal(taken.data, load_labels(subject.true_regions).data)


@pytest.mark.shared
def test_a_study_with_the_fetched_atlas_from_end_to_end(subject, shared):
    mine = study_of("jhu", atlas_folder=shared / "mirror")
    fits, volumes = labelling.label_cohort(mine, [subject])
    labels, truth = load_labels(mine.region_labels("7")), load_labels(subject.true_regions)
    assert not fits.loc[0, "outlier"] and fits.loc[0, "white_matter_dice"] > 0.5
    assert 0.6 < fits.loc[0, "mean_region_dice"] < 0.85  # the truth here is the built-in atlas
    assert (volumes.loc[volumes["region"].isin(REGION_LABELS), "ml"] > 0).all()
    assert labels.data[truth.data > 0].all() and np.allclose(labels.affine, truth.affine, atol=1e-4)
    known = pd.read_csv(mine.table("regions")).loc[0]
    assert known["mean_region_dice"] == pytest.approx(fits.loc[0, "mean_region_dice"])


def test_a_study_whose_atlas_was_not_fetched_says_how(subject):
    two = [subject, replace(subject, id="8")]
    with pytest.raises(ImageError, match=r"(?s)labels of 1 of 2 subjects \(8\).*wmh fetch atlas"):
        labelling.label_cohort(study_of("published"), two, {"7": subject.true_regions})
    with pytest.raises(
        ImageError, match=r"JHU_MNI.*no such file. Fetch the atlas with wmh fetch atlas"
    ):
        labelling.label_cohort(study_of("jhu"), two)


def test_the_table_flags_fits_that_lie_apart_and_fits_in_doubt(subject):
    dices = [0.80, 0.81, 0.79, 0.80, 0.82, 0.55, 0.80]
    contrasts = [1.5, 1.6, 0.3, 1.5, 1.4, 1.5, 1.7]
    nothing = dict.fromkeys(labelling.FIT_COLUMNS)
    done = {
        str(i): {"fit": nothing | {"white_matter_dice": d, "border_contrast": c}, "regions": []}
        for i, (d, c) in enumerate(zip(dices, contrasts, strict=True))
    }
    done["1"]["fit"]["doubt"] = "look at it"
    table = labelling._fit_table([replace(subject, id=name) for name in done], done)
    assert list(table.loc[table["outlier"], "id"]) == ["1", "2", "5"]
    assert table["mean_region_dice"].isna().all()


def test_region_dice_of_a_case_worked_by_hand():
    truth, prediction = np.array([0, 1, 1, 2, 3]), np.array([1, 1, 1, 2, 0])
    dice = region_dice(truth, prediction)
    assert dice[1] == pytest.approx(4 / 5)
    assert (dice[2], dice[3]) == (1, 0)
    assert np.isnan(dice[4])


def test_robust_z_of_a_case_worked_by_hand():
    z = labelling.robust_z(pd.Series([1.0, 2, 3, 4, 100]))
    assert z.tolist() == pytest.approx([x / 1.4826 for x in (-2, -1, 0, 1, 97)])
    assert (labelling.robust_z(pd.Series([2.0, 2, 2])) == 0).all()
