"""Simulated subjects made from label maps of whole heads, on any scanner."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from wmh.atlas.regions import mni_grey_matter, mni_t1, mni_white_matter
from wmh.cohorts.cohort import CohortError
from wmh.cohorts.scanners import SCANNERS, VARIOUS, draw_scanner
from wmh.cohorts.sources import find_challenge
from wmh.phantom import references
from wmh.phantom.lesion_load import LesionLoad
from wmh.phantom.references import template
from wmh.phantom.simulate import simulate_subject
from wmh.phantom.writing import simulate_cohort
from wmh.settings import Simulation

LOAD = LesionLoad(lesion_ml=20.0, lesions=20, largest_share=0.4, periventricular_share=0.8)


def label_map() -> np.ndarray:
    """The MNI152 brain in FreeSurfer's labels, in a skull, fat and skin."""
    white, grey = mni_white_matter(1).data > 0.5, mni_grey_matter(1).data > 0.5
    brain = ndimage.binary_fill_holes(mni_t1(1).data > 0)
    left = (np.arange(brain.shape[0]) < brain.shape[0] // 2)[:, None, None]
    labels = np.zeros(brain.shape, np.int32)
    reached = ndimage.distance_transform_edt(~brain)
    for label, mm in ((511, 14), (507, 12), (515, 6)):
        labels[reached < mm] = label
    labels[brain] = 24
    labels[grey] = np.where(left, 3, 42).repeat(brain.shape[1], 1).repeat(brain.shape[2], 2)[grey]
    labels[white] = np.where(left, 2, 41).repeat(brain.shape[1], 1).repeat(brain.shape[2], 2)[white]
    spread = template().from_ventricles[22:-22, 22:-22, 22:-22] < 0
    ventricles = spread.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    ventricles = ventricles[tuple(slice(n) for n in brain.shape)]
    labels[ventricles & brain] = 4
    return labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    image = nib.Nifti1Image(label_map(), mni_t1(1).affine)
    nib.save(image, folder / "training_seg_01.nii.gz")
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    return references.head(folder / "training_seg_01.nii.gz")


def test_a_head_is_laid_on_the_template_and_has_its_regions(reference):
    np.testing.assert_allclose(reference.affine[:3, :3], np.eye(3), atol=0.08)
    white = reference.white > 200
    assert set(np.unique(reference.regions[white])) <= set(range(1, 37))
    known = template()
    shift = np.rint(reference.affine[:3, 3] - known.affine[:3, 3]).astype(int)
    there = np.argwhere(white)[::500]
    at = there + shift
    inside = ((at >= 0) & (at < known.regions.shape)).all(axis=1)
    same = reference.regions[tuple(there[inside].T)] == known.regions[tuple(at[inside].T)]
    assert same.mean() > 0.8


def test_a_head_knows_its_surroundings_and_ventricles(reference):
    for label in (507, 511, 515):
        assert (reference.around == references.AROUND.index(label) + 1).sum() > 100_000
    assert 10 < (reference.from_ventricles < 0).sum() * 8 / 1000 < 30
    tissues = reference.white.astype(int) + reference.grey + reference.csf
    assert tissues[reference.brain > 250].min() > 200


def test_a_prepared_head_is_kept_until_its_map_changes(folder, reference, monkeypatch):
    file = folder / "training_seg_01.nii.gz"
    references.head.cache_clear()
    monkeypatch.setattr(references, "_prepare", lambda _: pytest.fail("prepared again"))
    kept = references.head(file)
    np.testing.assert_array_equal(kept.white, reference.white)
    references.head.cache_clear()
    monkeypatch.setattr(references, "fingerprint", lambda _: "of another map")
    monkeypatch.setattr(references, "_prepare", lambda _: reference)
    assert references.head(file) is reference
    references.head.cache_clear()


def test_a_subject_of_a_real_head_has_a_face_or_is_stripped(folder, reference):
    file = (folder / "training_seg_01.nii.gz",)
    made = [
        simulate_subject(SCANNERS["utrecht_philips_3t"], seed, LOAD, 6, file) for seed in range(6)
    ]
    shares = [np.mean(subject.flair.data > 0) for subject in made]
    assert min(shares) < 0.3  # stripped: black around the brain
    assert max(shares) > 0.5  # whole: noise all around
    for subject in made:
        lesion_ml = (subject.lesions.data == 1).sum() * subject.lesions.voxel_ml
        assert 10 < lesion_ml < 40
        assert (subject.regions.data[subject.lesions.data == 1] > 0).all()


def test_same_seed_same_voxels_on_a_scanner_of_its_own(folder, reference):
    file = (folder / "training_seg_01.nii.gz",)
    first, again = (simulate_subject(VARIOUS, 3, LOAD, 6, file) for _ in range(2))
    np.testing.assert_array_equal(first.flair.data, again.flair.data)
    np.testing.assert_array_equal(first.t1.data, again.t1.data)
    other = simulate_subject(VARIOUS, 4, LOAD, 6, file)
    assert other.flair.data.shape != first.flair.data.shape


def test_scanners_differ_in_slices_and_field():
    drawn = [draw_scanner(np.random.default_rng(seed)) for seed in range(60)]
    thickness = [scanner.voxel_size[2] for scanner in drawn]
    assert min(thickness) < 2.5 and max(thickness) > 6
    heights = [scanner.voxel_size[2] * scanner.shape[2] for scanner in drawn]
    assert min(heights) > 100 and max(heights) < 210


def test_a_cohort_of_heads_in_the_challenges_layout(folder, reference, tmp_path):
    simulation = Simulation(
        training={"various": 1},
        test={"various": 1},
        in_plane_coarsening=6,
        anatomy="heads",
        heads_folder=folder,
    )
    simulate_cohort(tmp_path / "cohort", simulation, seed=0, jobs=1)
    assert [s.scanner for s in find_challenge(tmp_path / "cohort")] == ["various", "various"]


def test_heads_that_were_not_fetched_are_asked_for(tmp_path):
    simulation = Simulation(
        training={"various": 1}, test={"various": 1}, anatomy="heads", heads_folder=tmp_path
    )
    with pytest.raises(CohortError, match="wmh fetch heads"):
        simulate_cohort(tmp_path / "cohort", simulation, seed=0)
