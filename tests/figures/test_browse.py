"""Controls draw what they choose; without anyone at them there is one picture."""

import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from wmh.cohorts.cohort import Subject
from wmh.figures.browse import HEADLESS, browse
from wmh.figures.style import StyledFigure


@pytest.fixture
def subjects(tmp_path):
    """Two people of 12 slices whose lesion lies in slice 3 and in slice 9."""
    found = []
    for name, z in (("a", 3), ("b", 9)):
        lesions = np.zeros((20, 24, 12), np.uint8)
        lesions[8:12, 8:12, z] = 1
        brain = np.full(lesions.shape, 0.5, np.float32)
        brain[:2], brain[4, 4, 4] = 0, 1
        files = {"flair": brain + lesions, "t1": brain, "lesions": lesions, "true_regions": lesions}
        paths = {}
        for what, data in files.items():
            paths[what] = tmp_path / f"{name}_{what}.nii.gz"
            nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 3.0, 1.0])), paths[what])
        found.append(Subject(name, "test", "somewhere", **paths))
    return found


def layers(subjects):
    by_id = {subject.id: subject.lesions for subject in subjects}
    return {"predictions": {"flair": by_id.get}, "regions": {"registered": by_id.get}}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_each_control_changes_the_picture(subjects, monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    *controls, picture = browse(subjects, **layers(subjects)).children
    subject, image, over, height = controls
    assert subject.options == ("a (somewhere, test)", "b (somewhere, test)")
    assert over.options == ("true lesions", "flair", "registered")
    assert height.value == round(100 * 3 / 11)
    seen = {bytes(picture.value)}
    choices = [(over, "flair"), (over, "registered"), (image, "T1"), (height, 80)]
    for control, value in [*choices, (subject, subject.options[1])]:
        control.value = value
        seen.add(bytes(picture.value))
    assert len(seen) == 6


def test_what_is_not_made_yet_cannot_be_chosen(subjects, monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    over = layers(subjects)
    over["predictions"]["t1"] = lambda name: subjects[0].lesions.with_name(f"{name}_none.nii.gz")
    assert browse(subjects, **over).children[2].options == ("true lesions", "flair", "registered")


def test_errors_are_in_colour(subjects, monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    *_, over, _, picture = browse(subjects, **layers(subjects)).children
    colourful = lambda: (np.ptp(pixels(picture.value), axis=2) > 100).sum()  # noqa: E731
    outlined = colourful()
    over.value = "flair"
    assert colourful() > 3 * outlined


def test_headless_is_one_picture(subjects, monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    figure = browse(subjects)
    assert isinstance(figure, StyledFigure)
    figure.draw_without_rendering()
