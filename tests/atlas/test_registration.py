"""Registration of white matter, and labels carried along."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from tests.atlas.heads import displacement, moved
from wmh.atlas import registration
from wmh.atlas.regions import REGION_LABELS, built_in_atlas, mni_white_matter, region_dice
from wmh.images import Image, ImageError

ATLAS = mni_white_matter(2)
MODERATE = displacement((12, -8, 10), (25, -30, 15), (0.9, 1.05, 1.1))


def fit_to(white: Image, **options) -> registration.Fit:
    return registration.register_atlas(white, ATLAS, seed=7, **options)


def mean_dice(truth: Image, carried: Image) -> float:
    return float(np.nanmean(region_dice(truth.data, carried.data)[list(REGION_LABELS)]))


def farthest_mm(fit: registration.Fit, moved_by: np.ndarray) -> float:
    """How far, at most, the fit puts a corner of the brain from where it came from."""
    corners = np.array([(x, y, z) for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    found = fit.transform(nib.affines.apply_affine(moved_by, corners))
    return float(np.linalg.norm(found - corners, axis=1).max())


@pytest.fixture(scope="module")
def moderate():
    """A moderately moved head and its fit, shared because a fit takes a second."""
    _, white, truth = moved(MODERATE)
    return white, truth, fit_to(white)


def test_a_known_affine_is_found(moderate):
    _, truth, fit = moderate
    assert farthest_mm(fit, MODERATE) < 2
    assert fit.white_matter_dice > 0.85
    assert fit.doubt is None
    mask = Image(truth.data > 0, truth.affine)
    assert mean_dice(truth, registration.carry_labels(built_in_atlas(2), fit, mask)) > 0.9


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(moderate, threads):
    white, _, fit = moderate
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        again = fit_to(white)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert again.transform.matrix.tobytes() == fit.transform.matrix.tobytes()


def test_a_large_tilt_is_found():
    tilt = displacement((45, 25, -35))
    _, white, _ = moved(tilt)
    fit = fit_to(white)
    assert farthest_mm(fit, tilt) < 3
    assert fit.doubt is None


def test_a_start_that_leads_astray_is_noticed_and_another_is_tried(moderate, monkeypatch):
    white, _, fit = moderate
    upside_down = fit.transform.matrix @ np.diag([1.0, -1, -1, 1])
    starts = registration._starts

    def misled(subject, atlas):
        yield upside_down
        yield from starts(subject, atlas)

    monkeypatch.setattr(registration, "_starts", misled)
    again = fit_to(white)
    assert again.attempts == 2
    assert farthest_mm(again, MODERATE) < 2
    assert again.doubt is None


def test_a_head_turned_by_its_header_is_fitted_and_doubted():
    turned = displacement((0, 0, 180))
    _, white, _ = moved(turned)
    with pytest.warns(registration.RegistrationWarning, match="does not show which side is left"):
        fit = fit_to(white)
    assert "turned by" in fit.doubt
    assert fit.white_matter_dice > 0.8


def test_a_mask_that_is_no_white_matter_is_doubted():
    ball = np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0) < 9
    with pytest.warns(
        registration.RegistrationWarning, match="white matter and atlas do not fit well"
    ):
        fit = fit_to(Image(ball.astype(np.uint8), np.diag([4.0, 4, 4, 1])))
    assert fit.attempts == registration.MOST_ATTEMPTS


def test_an_empty_mask_is_refused():
    with pytest.raises(ImageError, match="holds no white matter"):
        fit_to(Image(np.zeros((8, 8, 8)), np.eye(4)))


def test_the_deformable_method_fits_a_bent_brain_better():
    _, white, truth = moved(np.eye(4))
    white = Image(bend(white.data, 1), white.affine)
    truth = Image(bend(truth.data, 0), truth.affine)
    mask = Image(truth.data > 0, truth.affine)
    dice = {}
    for method in ("affine", "deformable"):
        fit = fit_to(white, method=method)
        carried = registration.carry_labels(built_in_atlas(2), fit, mask)
        dice[method] = (fit.white_matter_dice, mean_dice(truth, carried))
    assert dice["deformable"][0] > dice["affine"][0] + 0.03
    assert dice["deformable"][1] > dice["affine"][1]


def bend(data: np.ndarray, order: int) -> np.ndarray:
    """Push the voxels to and fro by up to 2 voxels, in waves."""
    index = np.indices(data.shape).astype(float)
    moved = index + 2 * np.sin(index[[1, 2, 0]] / 8)
    return map_coordinates(data, moved, order=order)


def test_a_transform_displaces_before_it_applies_its_matrix():
    field = np.zeros((10, 10, 10, 3))
    field[..., 0] = 2 * np.arange(10)[:, None, None]  # a fifth of x, in voxels of 10 mm
    transform = registration.Transform(MODERATE, Image(field, np.diag([10.0, 10, 10, 1])))
    points = np.random.default_rng(0).uniform(10, 80, (20, 3))
    expected = nib.affines.apply_affine(MODERATE, points * (1.2, 1, 1))
    assert np.allclose(transform(points), expected)


def identity_fit() -> registration.Fit:
    return registration.Fit(registration.Transform(np.eye(4)), 1.0, 1.0, 1, 0.0)


def test_carried_labels_fill_the_white_matter_and_stay_inside():
    labels = np.zeros((6, 6, 6), dtype=np.uint8)
    labels[1:3, 1:5, 1:5], labels[4, 1:5, 1:5] = 3, 20
    mask = np.zeros((6, 6, 6), dtype=np.uint8)
    mask[0:5, 2:4, 2:4] = 1
    carried = registration.carry_labels(
        Image(labels, np.eye(4)), identity_fit(), Image(mask, np.eye(4))
    ).data
    assert np.array_equal(carried > 0, mask > 0)
    assert (carried[0:3, 2:4, 2:4] == 3).all()  # column 0 is missed and takes the nearest label
    assert (carried[4, 2:4, 2:4] == 20).all()


def test_labels_that_miss_the_white_matter_are_refused():
    labels, mask = np.zeros((4, 4, 4), np.uint8), np.ones((4, 4, 4), np.uint8)
    with pytest.raises(ImageError, match="no label of the atlas lies in"):
        registration.carry_labels(Image(labels, np.eye(4)), identity_fit(), Image(mask, np.eye(4)))


def test_the_published_scripts_optimiser_improves_on_its_start():
    _, white, _ = moved(displacement(shift=(5, 0, 5), scale=(1.1, 0.95, 1)))
    fit = fit_to(white, method="paper")
    assert fit.white_matter_dice > 0.85
