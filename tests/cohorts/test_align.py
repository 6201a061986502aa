"""T1 brought to the FLAIR: through headers that are right, off, or nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.cohorts.scans import head, oblique
from wmh.cohorts.align import (
    bring_t1_to_flair,
    head_mask,
    measure_offset,
    raise_without_overlap,
    register_rigidly,
)
from wmh.images import Image, ImageError, load_image

FLAIR_SHAPE, FLAIR_MM = (44, 52, 20), (4.0, 4.0, 9.0)
T1_SHAPE, T1_MM = (36, 40, 34), (5.0, 5.0, 5.5)


def flair() -> Image:
    affine = oblique(FLAIR_SHAPE, FLAIR_MM)
    return Image(head(FLAIR_SHAPE, affine), affine)


def t1(wrong: np.ndarray | None = None) -> Image:
    """A T1 on its own grid, whose header a motion of world space has made ``wrong``."""
    affine = oblique(T1_SHAPE, T1_MM, degrees=-5)
    data = head(T1_SHAPE, affine, "t1", seed=1)
    return Image(data, affine if wrong is None else wrong @ affine)


def motion(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    a, matrix = np.radians(degrees), np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift
    return matrix


def off_by(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest distance in mm between two motions, at the ends of the head."""
    ends = np.array([[x, y, z, 1] for x in (-70, 70) for y in (-90, 90) for z in (-75, 75)])
    return float(np.linalg.norm((ends @ (found - expected).T)[:, :3], axis=1).max())


@pytest.mark.parametrize(
    ("degrees", "shift"), [(0, (0, 0, 0)), (4, (6, -9, 5)), (20, (0, 0, 0)), (5, (50, -30, 20))]
)
def test_a_known_motion_is_found(degrees, shift):
    wrong = motion(degrees, shift)
    rigid = register_rigidly(t1(wrong), flair(), seed=1)
    assert off_by(rigid.matrix, wrong) < 4  # of voxels of 4 to 9 mm, at the corners
    assert np.allclose(rigid.matrix[:3, :3] @ rigid.matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_the_offset_is_the_distance_the_headers_are_off():
    rigid = register_rigidly(t1(motion(0, (12, 0, -16))), flair(), seed=1)
    assert rigid.offset_mm == pytest.approx(20, abs=1)
    assert register_rigidly(t1(), flair(), seed=1).offset_mm < 1


def test_the_blank_around_two_heads_is_nothing_that_they_have_in_common():
    def padded(image: Image) -> Image:
        margin = np.array(image.data.shape) // 2
        affine = image.affine.copy()
        affine[:3, 3] -= affine[:3, :3] @ margin
        return Image(np.pad(image.data, [(n, n) for n in margin]), affine)

    bare = measure_offset(t1(), flair(), seed=1)
    blank = measure_offset(padded(t1()), padded(flair()), seed=1)
    assert blank.common > 0.75 * bare.common
    assert blank.offset_mm < 3


def test_the_same_seed_gives_the_same_motion():
    first, second = (register_rigidly(t1(motion(4, (6, -9, 5))), flair(), seed=0) for _ in "ab")
    assert np.array_equal(first.matrix, second.matrix)


def test_headers_that_are_right_bring_the_t1_to_the_flairs_grid():
    moved, offset = bring_t1_to_flair(t1(), flair(), register=False, seed=1)
    truth = head(FLAIR_SHAPE, flair().affine, "t1", seed=1)
    assert moved.data.shape == FLAIR_SHAPE and np.array_equal(moved.affine, flair().affine)
    assert np.corrcoef(moved.data.ravel(), truth.ravel())[0, 1] > 0.97
    assert offset < 1


def test_registering_undoes_headers_that_are_wrong():
    wrong = t1(motion(6, (15, -12, 9)))
    truth = head(FLAIR_SHAPE, flair().affine, "t1", seed=1)
    believed, offset = bring_t1_to_flair(wrong, flair(), register=False, seed=1)
    registered, same_offset = bring_t1_to_flair(wrong, flair(), register=True, seed=1)
    assert offset == same_offset > 15
    assert np.corrcoef(believed.data.ravel(), truth.ravel())[0, 1] < 0.9
    assert np.corrcoef(registered.data.ravel(), truth.ravel())[0, 1] > 0.97


def test_one_grid_needs_no_measuring():
    same = Image(head(FLAIR_SHAPE, flair().affine, "t1"), flair().affine)
    moved, offset = bring_t1_to_flair(same, flair(), register=False, seed=1)
    assert offset is None and np.array_equal(moved.data, same.data)


def test_scans_that_do_not_overlap_are_refused():
    with pytest.raises(ImageError, match="holds only 0% of the head"):
        raise_without_overlap(t1(motion(0, (400, 0, 0))), flair())
    raise_without_overlap(t1(motion(0, (20, 0, 0))), flair())


@pytest.mark.parametrize("background", [0.0, 12.0])
def test_the_head_is_found_in_noise_and_in_nothing(background):
    image = flair()
    truth = image.data > 50
    noise = np.abs(np.random.default_rng(0).normal(0, background + 1e-6, image.data.shape))
    mask = head_mask(Image((image.data + noise).astype(np.float32), image.affine))
    assert (truth & ~mask).sum() < 0.01 * truth.sum()
    assert not (mask & ~ndimage.binary_dilation(truth, iterations=2)).any()


@pytest.mark.shared
def test_a_real_pair_lies_where_its_published_registration_says(shared):
    """head12 comes with the affine its authors found between T1 and FLAIR."""
    folder = shared / "real/head12"
    rigid = register_rigidly(
        load_image(folder / "T1.nii.gz"), load_image(folder / "FLAIR.nii.gz"), seed=1
    )
    lines = dict(
        line.split(": ", 1) for line in (folder / "T1_to_FLAIR.txt").open() if ": " in line
    )
    numbers = np.array(lines["Parameters"].split(), float)
    centre = np.array(lines["FixedParameters"].split(), float)
    published = np.eye(4)
    published[:3, :3] = numbers[:9].reshape(3, 3)
    published[:3, 3] = centre + numbers[9:] - published[:3, :3] @ centre
    flip = np.diag([-1, -1, 1, 1])  # ITK's world is left-posterior-superior
    assert off_by(rigid.matrix, flip @ published @ flip) < 4
