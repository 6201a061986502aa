"""Labels of a cohort: files, tables, going on, and what is flagged."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.atlas.heads import displacement, moved
from wmh.atlas import labelling
from wmh.atlas.tissue import white_matter
from wmh.images import ImageError, load_image, load_labels, save_image
from wmh.settings import CohortSettings, RegionSettings
from wmh.study import Study

ONE_MODEL = {"flair": {"task": "lesions", "inputs": "flair", "steps": 1}}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
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
    return labelling.Task(
        id="7",
        flair=folder / "FLAIR.nii.gz",
        t1=folder / "T1.nii.gz",
        lesions=folder / "wmh.nii.gz",
        true_regions=folder / "regions.nii.gz",
        published=None,
        settings=RegionSettings(),
        atlas_folder=folder,
        seed=5,
        output=folder / "out" / "7.nii.gz",
    )


def test_a_subject_is_labelled_on_its_own_grid_and_measured(task):
    originals = {path: path.read_bytes() for path in (task.flair, task.t1, task.true_regions)}
    row = labelling.label_subject(task)
    labels, truth = load_labels(task.output), load_labels(task.true_regions)
    assert np.allclose(labels.affine, truth.affine, atol=1e-4)
    assert labels.header["qform_code"] > 0 and labels.header["sform_code"] > 0
    assert labels.header.get_xyzt_units()[0] == "mm"
    assert all(path.read_bytes() == content for path, content in originals.items())
    lesions = load_labels(task.lesions)
    assert labels.data[lesions.data == 1].all()
    white = white_matter(load_image(task.t1), lesions=lesions)
    assert np.array_equal(labels.data > 0, white.data > 0)
    dice = [r["dice"] for r in row["regions"] if r["region"] <= 34]
    assert np.mean(dice) > 0.85
    volume = sum(r["ml"] for r in row["regions"])
    assert volume == pytest.approx(np.count_nonzero(labels.data) * labels.voxel_ml)


def test_a_finished_subject_is_not_done_again_unless_something_changed(task, monkeypatch):
    first = labelling.label_subject(task)
    calls = []
    monkeypatch.setattr(labelling, "load_image", lambda path: calls.append(path) or 1 / 0)
    assert labelling.label_subject(task) == first
    assert not calls
    with pytest.raises(ZeroDivisionError):
        labelling.label_subject(replace(task, seed=6))


def test_published_labels_are_taken_as_they_are(task, tmp_path):
    published = replace(
        task,
        settings=RegionSettings(atlas="published"),
        published=task.true_regions,
        output=tmp_path / "7.nii.gz",
    )
    row = labelling.label_subject(published)
    assert row["fit"] == {}
    assert np.array_equal(load_labels(published.output).data, load_labels(task.true_regions).data)


def test_known_regions_are_the_subjects_own_or_none(task, tmp_path):
    known = replace(task, settings=RegionSettings(atlas="known"), output=tmp_path / "7.nii.gz")
    assert labelling.label_subject(known)["fit"] == {}
    assert np.array_equal(load_labels(known.output).data, load_labels(task.true_regions).data)
    labelling.label_subject(replace(known, true_regions=None))
    assert not load_labels(known.output).data.any()


def test_published_labels_of_another_grid_are_refused(task, tmp_path):
    labels = load_labels(task.true_regions)
    save_image(tmp_path / "else.nii.gz", labels.data[1:], replace(labels, data=labels.data[1:]))
    strange = replace(
        task,
        settings=RegionSettings(atlas="published"),
        published=tmp_path / "else.nii.gz",
        output=tmp_path / "7.nii.gz",
    )
    with pytest.raises(ImageError, match=r"lie on another grid than .*FLAIR"):
        labelling.label_subject(strange)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that makes a study with an atlas, in a project of its own."""
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    cohort = CohortSettings(source="challenge", folder="data")

    def make(atlas: str, **settings) -> Study:
        regions = RegionSettings(atlas=atlas, **settings)
        return Study(name="mine", title="Mine", cohort=cohort, models=ONE_MODEL, regions=regions)

    return make


def test_a_study_with_published_labels_from_end_to_end(task, study):
    subject = _Subject("7", task)
    fits, volumes = labelling.label_cohort(study("published"), [subject], {"7": task.true_regions})
    assert fits.loc[0, "mean_region_dice"] == 1
    assert fits["white_matter_dice"].isna().all() and not fits["outlier"].any()
    assert len(volumes) == 36


@pytest.mark.shared
def test_a_study_with_the_fetched_atlas_from_end_to_end(task, study, shared):
    mine = study("jhu", atlas_folder=shared / "mirror")
    fits, volumes = labelling.label_cohort(mine, [_Subject("7", task)])
    labels, truth = (load_labels(p) for p in (mine.results / "regions/7.nii.gz", task.true_regions))
    assert not fits.loc[0, "outlier"] and fits.loc[0, "white_matter_dice"] > 0.5
    assert 0.6 < fits.loc[0, "mean_region_dice"] < 0.85  # the truth here is the built-in atlas
    assert (volumes.loc[volumes["region"] <= 34, "ml"] > 0).all()
    assert labels.data[truth.data > 0].all() and np.allclose(labels.affine, truth.affine, atol=1e-4)
    known = pd.read_csv(mine.results / "regions.csv").loc[0]
    assert known["mean_region_dice"] == pytest.approx(fits.loc[0, "mean_region_dice"])


def test_a_study_whose_atlas_was_not_fetched_says_how(task, study):
    with pytest.raises(ImageError, match=r"(?s)labels of 1 of 2 subjects \(8\).*wmh fetch atlas"):
        labelling.label_cohort(
            study("published"), [_Subject("7"), _Subject("8")], {"7": task.true_regions}
        )
    with pytest.raises(ImageError, match=r"JHU_MNI.*no such file. Fetch it: wmh fetch atlas"):
        labelling.label_cohort(study("jhu"), [_Subject("7")])


def test_an_unfinished_record_is_not_taken_for_a_finished_one(task):
    first = labelling.label_subject(task)
    task.output.unlink()
    again = labelling.label_subject(task)
    assert task.output.is_file()
    assert again["regions"] == first["regions"]
    assert json.loads(task.output.with_name("7.json").read_text()) == again


def test_the_table_flags_fits_that_lie_apart_and_fits_in_doubt(task):
    dices = [0.80, 0.81, 0.79, 0.80, 0.82, 0.55, 0.80]
    contrasts = [1.5, 1.6, 0.3, 1.5, 1.4, 1.5, 1.7]
    subjects = [replace(task, id=str(i)) for i in range(len(dices))]
    done = {
        str(i): {
            "fit": dict.fromkeys(labelling.FIT_COLUMNS)
            | {"white_matter_dice": d, "border_contrast": c},
            "regions": [],
        }
        for i, (d, c) in enumerate(zip(dices, contrasts, strict=True))
    }
    done["1"]["fit"]["doubt"] = "look at it"
    table = labelling._fit_table([_Subject(s.id) for s in subjects], done)
    assert list(table.loc[table["outlier"], "id"]) == ["1", "2", "5"]
    assert table["mean_region_dice"].isna().all()


class _Subject:
    scanner, split = "utrecht_philips_3t", "test"

    def __init__(self, name: str, task: labelling.Task | None = None):
        self.id = name
        self.flair, self.t1, self.lesions, self.true_regions = (
            (task.flair, task.t1, task.lesions, task.true_regions) if task else (None,) * 4
        )


def test_region_dice_of_a_case_worked_by_hand():
    truth, prediction = np.array([0, 1, 1, 2, 3]), np.array([1, 1, 1, 2, 0])
    dice = labelling.region_dice(truth, prediction)
    assert dice[1] == pytest.approx(4 / 5)
    assert (dice[2], dice[3]) == (1, 0)
    assert np.isnan(dice[4])


def test_robust_z_of_a_case_worked_by_hand():
    z = labelling.robust_z(pd.Series([1.0, 2, 3, 4, 100]))
    assert z.tolist() == pytest.approx([x / 1.4826 for x in (-2, -1, 0, 1, 97)])
    assert (labelling.robust_z(pd.Series([2.0, 2, 2])) == 0).all()
