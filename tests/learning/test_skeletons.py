import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.cohorts.scans import save_subject
from tests.learning.test_volumes import study_of_volumes
from wmh.cohorts.cohort import Subject
from wmh.learning.prepare import prepared_slices
from wmh.learning.skeletons import tubed_skeleton, tubed_skeletons_of_slices


def test_a_bar_has_its_middle_line_widened_by_two_pixels():
    bar = np.zeros((15, 41), np.uint8)
    bar[3:12, 2:39] = 1  # nine pixels wide
    tube = tubed_skeleton(bar)
    assert tube[5:10, 10:30].all()  # the middle line and two pixels on each side
    assert not tube[:5, 10:30].any()
    assert not tube[10:, 10:30].any()


def test_a_rod_in_three_dimensions():
    rod = np.zeros((15, 15, 31), np.uint8)
    rod[3:12, 3:12, 2:29] = 1
    tube = tubed_skeleton(rod)
    middle = np.indices((15, 15))
    near = np.abs(middle[0] - 7) + np.abs(middle[1] - 7) <= 2
    np.testing.assert_array_equal(tube[:, :, 15], near)


def test_every_class_has_a_skeleton_of_its_own():
    halves = np.zeros((20, 20), np.uint8)
    halves[2:18, 2:10], halves[2:18, 10:18] = 3, 20
    alone = {label: tubed_skeleton(np.where(halves == label, 1, 0)) for label in (3, 20)}
    tubes = tubed_skeleton(halves)
    for label, tube in alone.items():
        np.testing.assert_array_equal(tubes == label, tube == 1)


@pytest.mark.parametrize("shape", [(2, 2), (1, 1), (2, 2, 2)])
def test_an_object_that_thinning_wipes_out_stays_whole(shape):
    dot = np.pad(np.ones(shape, np.uint8), 4)
    np.testing.assert_array_equal(tubed_skeleton(dot), dot)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, (9, 11), elements=st.integers(0, 3)))
def test_a_tube_lies_inside_its_class_and_misses_none(labels):
    tubes = tubed_skeleton(labels)
    assert (tubes[tubes > 0] == labels[tubes > 0]).all()
    assert set(np.unique(tubes)) - {0} == set(np.unique(labels)) - {0}


def test_slices_are_thinned_one_by_one():
    stack = np.zeros((2, 12, 12), np.uint8)
    stack[0, 2:10, 4:7] = 1
    tubes = tubed_skeletons_of_slices(stack)
    np.testing.assert_array_equal(tubes[0], tubed_skeleton(stack[0]))
    assert not tubes[1].any()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_subjects_are_read_with_their_skeletons(study, tmp_path, dimensions):
    """Of lesions alone, without other pathology, slice by slice or of the whole volume."""
    folder = save_subject(tmp_path / "a")
    files = [folder / name for name in ("pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz")]
    subject = Subject("a", "training", "utrecht_philips_3t", *files)
    assert not prepared_slices(study, [subject], regions=False).skeletons
    training = (study_of_volumes() if dimensions == 3 else study).training
    loss = training.loss.model_copy(update={"skeleton_recall": 1.0})
    thin_study = study.model_copy(update={"training": training.model_copy(update={"loss": loss})})
    slices = prepared_slices(thin_study, [subject], regions=False).in_memory()
    truth = (slices.lesions == 1).to(torch.uint8).numpy()
    thin = tubed_skeletons_of_slices if dimensions == 2 else tubed_skeleton
    np.testing.assert_array_equal(slices.skeletons["lesions"].numpy(), thin(truth))
    assert slices.skeletons["lesions"].any()
