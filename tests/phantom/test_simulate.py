"""The simulated subject: fields, anatomy, load, lesions, contrast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from wmh.cohorts.scanners import SCANNERS
from wmh.images import Image, ImageError
from wmh.phantom.anatomy import _smallest_stretch
from wmh.phantom.fields import FineGrid, enlarge, smooth_field
from wmh.phantom.lesion_load import (
    MEASURES,
    LesionLoad,
    draw_lesion_loads,
    lesion_statistics,
    real_quantiles,
)
from wmh.phantom.references import template
from wmh.phantom.simulate import SimulatedSubject, simulate_subject

COARSE = 6  # in-plane coarsening that makes a subject in a second
LOAD = LesionLoad(lesion_ml=30.0, lesions=25, largest_share=0.4, periventricular_share=0.8)


@pytest.fixture(scope="module")
def subject() -> SimulatedSubject:
    return simulate_subject(SCANNERS["utrecht_philips_3t"], 7, LOAD, COARSE)


@pytest.fixture(scope="module")
def other() -> SimulatedSubject:
    return simulate_subject(SCANNERS["utrecht_philips_3t"], 8, LOAD, COARSE)


def from_white_matter(subject: SimulatedSubject) -> np.ndarray:
    """Distance in mm of each voxel to the nearest white matter."""
    regions = subject.regions
    return distance_transform_edt(regions.data == 0, sampling=regions.voxel_size)


def grid(parts=(2, 1, 3), start=(1, 0, 2), count=(2, 3, 1), shape=(4, 3, 4)) -> FineGrid:
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    return FineGrid(affine, shape, np.array(start), np.array(count), np.array(parts))


def test_average_is_the_mean_over_a_voxels_parts():
    fine = np.arange(36, dtype=float).reshape(4, 3, 3)
    expected = fine.reshape(2, 2, 3, 1, 1, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(grid().average(fine), expected)


def test_fine_voxels_fill_their_native_voxel():
    of_grid = grid()
    index = np.stack(np.meshgrid(*map(np.arange, of_grid.fine_shape), indexing="ij"), -1)
    world = index @ of_grid.fine_affine[:3, :3].T + of_grid.fine_affine[:3, 3]
    centres = np.stack([of_grid.average(world[..., axis]) for axis in range(3)], -1)
    native = np.stack(np.meshgrid([1, 2], [0, 1, 2], [2], indexing="ij"), -1)
    np.testing.assert_allclose(centres, native * (-2, -1, 3), atol=1e-5)


def test_embedding_leaves_the_background_outside_the_box():
    whole = grid().embed(np.ones((2, 3, 1)), background=-1)
    assert whole.shape == (4, 3, 4)
    assert whole.sum() == 6 - (48 - 6)
    assert whole[1, 0, 2] == 1


@given(st.lists(st.integers(2, 7), min_size=3, max_size=3), st.integers(1, 3))
def test_enlarging_keeps_a_linear_ramp(nodes, factor):
    shape = tuple(n * factor for n in nodes)
    axes = [np.linspace(0, 1, n) for n in nodes]
    ramp = sum(np.meshgrid(*axes, indexing="ij"))
    fine = sum(np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij"))
    np.testing.assert_allclose(enlarge(ramp, shape), fine, atol=1e-5)


def test_smooth_fields_are_standardised_and_smooth():
    field = smooth_field(np.random.default_rng(0), (40, 50, 30), np.ones(3), 5.0)
    assert abs(field.mean()) < 0.5
    assert 0.6 < field.std() < 1.2
    assert np.abs(np.diff(field, axis=0)).max() < 0.7


def test_stretch_is_one_without_and_negative_with_a_fold():
    straight = np.stack(np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij"))
    assert _smallest_stretch(straight, straight) == pytest.approx(1)
    folded = straight.copy()
    folded[0, 3:] = folded[0, 3:][::-1] - 3
    assert _smallest_stretch(folded, straight) < 0


def test_template_has_both_ventricles_and_regions_everywhere():
    made = template()
    sides = np.split(made.from_ventricles[: 2 * (made.from_ventricles.shape[0] // 2)] < 0, 2)
    millilitres = [side.sum() * 8 / 1000 for side in sides]
    assert all(5 < ml < 15 for ml in millilitres)
    assert made.regions.min() == 1
    assert made.regions.max() == 36


def test_statistics_of_a_case_worked_by_hand():
    lesions = np.zeros((8, 8, 4), np.uint8)
    lesions[1, 1, 1] = lesions[2, 2, 2] = lesions[3, 3, 2] = 1  # one lesion: corners touch
    lesions[7, 7, 0] = 1  # more than 10 mm away
    lesions[5, 5, 2] = 2  # other pathology does not count
    ventricles = np.zeros_like(lesions)
    ventricles[0, 0, 1] = 1
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    found = lesion_statistics(Image(lesions, affine), Image(ventricles, affine))
    assert found == pytest.approx(
        {
            "lesion_ml": 0.048,
            "lesions": 2,
            "largest_share": 0.75,
            "periventricular_share": 0.75,
        }
    )


def test_statistics_without_lesion_have_no_shares():
    nothing = Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    ventricles = Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    found = lesion_statistics(nothing, ventricles)
    assert found["lesion_ml"] == found["lesions"] == 0
    assert np.isnan(found["largest_share"])
    assert np.isnan(found["periventricular_share"])


def test_statistics_refuse_an_empty_ventricle_mask():
    nothing = Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    with pytest.raises(ImageError, match="ventricle mask is empty"):
        lesion_statistics(nothing, nothing)


def test_even_a_few_loads_are_spread_over_the_real_quantiles():
    loads = draw_lesion_loads(np.random.default_rng(3), 20)
    drawn = {name: sorted(getattr(load, name) for load in loads) for name in MEASURES}
    for name in MEASURES:
        real = real_quantiles()[name]
        assert drawn[name][0] < real[0.25] < drawn[name][9] < real[0.75] < drawn[name][19]


def test_loads_are_correlated_as_the_real_ones():
    loads = draw_lesion_loads(np.random.default_rng(0), 300)
    ranks = np.argsort(np.argsort([[getattr(load, n) for n in MEASURES] for load in loads], 0), 0)
    found = np.corrcoef(ranks.T)
    assert found[0, 2] == pytest.approx(0.68, abs=0.12)
    assert found[1, 3] == pytest.approx(-0.57, abs=0.12)


def test_a_subject_lies_on_the_scanners_grid(subject):
    assert subject.flair.data.shape == (40, 40, 48)
    np.testing.assert_allclose(subject.flair.voxel_size, (0.958 * 6, 0.958 * 6, 3.0))
    assert subject.flair.orientation == "LPS"


def test_the_same_seed_gives_the_same_voxels_and_another_seed_does_not(subject, other):
    again = simulate_subject(SCANNERS["utrecht_philips_3t"], 7, LOAD, COARSE)
    for name in ("flair", "t1", "flair_raw", "t1_raw", "lesions", "regions"):
        same = getattr(again, name).data
        np.testing.assert_array_equal(same, getattr(subject, name).data)
        assert not np.array_equal(same, getattr(other, name).data)


def test_lesions_lie_in_labelled_white_matter(subject):
    lesion = subject.lesions.data == 1
    assert (subject.regions.data[lesion] > 0).all()
    assert set(np.unique(subject.regions.data)) >= set(range(1, 35)) - {8, 11, 25, 28}


def test_lesions_come_close_to_the_load_asked_for(subject):
    found = lesion_statistics(subject.lesions, subject.ventricles)
    assert found["lesion_ml"] == pytest.approx(LOAD.lesion_ml, rel=0.35)
    assert found["lesions"] == pytest.approx(LOAD.lesions, rel=0.5)
    assert found["periventricular_share"] == pytest.approx(LOAD.periventricular_share, abs=0.2)


def test_lesions_are_bright_on_flair_and_dark_on_t1(subject):
    lesion = subject.lesions.data == 1
    white = (subject.regions.data > 0) & (subject.regions.data < 35) & ~lesion
    assert np.median(subject.flair.data[lesion]) > 1.15 * np.median(subject.flair.data[white])
    assert np.median(subject.t1.data[lesion]) < 0.97 * np.median(subject.t1.data[white])


def test_corrected_images_have_less_bias_than_raw_ones(subject):
    white = (subject.regions.data > 0) & (subject.lesions.data == 0)
    for corrected, raw in ((subject.flair, subject.flair_raw), (subject.t1, subject.t1_raw)):
        spread = [i.data[white].std() / i.data[white].mean() for i in (corrected, raw)]
        assert spread[0] < spread[1]


def test_some_heads_have_skull_and_scalp_and_others_are_stripped(subject, other):
    for stripped, whole in ((subject.flair, other.flair), (subject.t1, other.t1)):
        assert not stripped.data[from_white_matter(subject) > 25].any()
        distance = from_white_matter(other)
        white = np.median(whole.data[distance == 0])
        around = (distance > 12) & (distance < 40)
        assert (whole.data[around] > 0.5 * white).mean() > 0.05  # scalp, within the skull's dark


def test_flair_and_t1_have_noise_of_their_own(other):
    air = from_white_matter(other) > 60
    noise = [image.data[air].astype(float) for image in (other.flair_raw, other.t1_raw)]
    assert len(noise[0]) > 1000 and all(values.std() > 0 for values in noise)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05
