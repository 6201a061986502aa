"""The challenge's measures against SimpleITK, against a slow reading of the definition, by hand."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist

from tests.analysis.challenge_way import challenge_metrics, challenge_metrics_of_images
from wmh.analysis.metrics import (
    FIVE_MEASURES,
    connected_lesions,
    lesion_metrics,
    lesion_pair,
    surface,
)
from wmh.images import ImageError, load_labels

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
AFFINES = st.sampled_from(["isotropic", "anisotropic", "oblique"])


def affine_of(kind: str) -> np.ndarray:
    sizes = {"isotropic": (1, 1, 1)}.get(kind, (0.958, 1.2, 3.0))
    affine = np.diag([*sizes, 1.0])
    if kind == "oblique":
        around_x, around_z = 0.3, -0.2
        c, s = np.cos(around_x), np.sin(around_x)
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        c, s = np.cos(around_z), np.sin(around_z)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turn @ affine[:3, :3]
    affine[:3, 3] = (-80.0, 31.5, 12.25)
    return affine


@st.composite
def masks(draw):
    """A truth of labels 0, 1, 2 and a prediction of 0, 1 on one grid, sparse enough for lesions."""
    shape = draw(SHAPES)
    truth = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 1, 2])))
    prediction = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1])))
    return truth, prediction


def as_measures(values: dict[str, float]):
    return pytest.approx(values, rel=1e-6, abs=1e-9, nan_ok=True)


# The definition, read slowly --------------------------------------------------------------------


def slow_metrics(truth, prediction, affine):
    true = {tuple(v) for v in np.argwhere(truth == 1)}
    predicted = {tuple(v) for v in np.argwhere((prediction > 0) & (truth != 2))}
    both = len(true & predicted)
    total = len(true) + len(predicted)
    recall = slow_share_touched(slow_lesions(true), predicted)
    precision = slow_share_touched(slow_lesions(predicted), true)
    return {
        "dice": 2 * both / total if total else np.nan,
        "hd95_mm": slow_hd95(true, predicted, truth.shape, affine),
        "avd_percent": 100 * abs(len(true) - len(predicted)) / len(true) if true else np.nan,
        "lesion_recall": recall,
        "lesion_f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def slow_lesions(voxels):
    left, lesions = set(voxels), []
    while left:
        lesion, queue = set(), [left.pop()]
        while queue:
            voxel = queue.pop()
            lesion.add(voxel)
            for step in itertools.product((-1, 0, 1), repeat=3):
                near = tuple(int(a + b) for a, b in zip(voxel, step, strict=True))
                if near in left:
                    left.remove(near)
                    queue.append(near)
        lesions.append(lesion)
    return lesions


def slow_share_touched(lesions, voxels):
    return sum(bool(lesion & voxels) for lesion in lesions) / len(lesions) if lesions else 1.0


def slow_surface(voxels, shape):
    def outside(x, y):
        return not (0 <= x < shape[0] and 0 <= y < shape[1])

    steps = list(itertools.product((-1, 0, 1), repeat=2))
    return [
        (x, y, z)
        for x, y, z in voxels
        if not all(outside(x + i, y + j) or (x + i, y + j, z) in voxels for i, j in steps)
    ]


def slow_hd95(true, predicted, shape, affine):
    surfaces = [slow_surface(voxels, shape) for voxels in (true, predicted)]
    if not all(surfaces):
        return np.nan
    first, second = (np.array(points) @ affine[:3, :3].T for points in surfaces)
    apart = cdist(first, second)
    return max(np.percentile(apart.min(axis=axis), 95) for axis in (0, 1))


# ------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(masks(), AFFINES)
def test_equals_the_definition_read_slowly(pair, kind):
    affine = affine_of(kind)
    assert lesion_metrics(*pair, affine) == as_measures(slow_metrics(*pair, affine))


@settings(max_examples=100, deadline=None)
@given(masks(), AFFINES)
def test_equals_the_challenge_way(pair, kind):
    affine = affine_of(kind)
    assert lesion_metrics(*pair, affine) == as_measures(challenge_metrics(*pair, affine))


@pytest.mark.parametrize("kind", ["anisotropic", "oblique"])
def test_equals_the_challenge_way_on_smooth_lesions(kind):
    rng = np.random.default_rng(5)
    x, y, z = np.indices((40, 36, 12))
    truth, prediction = np.zeros((2, 40, 36, 12), dtype=np.uint8)
    for _ in range(12):
        centre, radius = rng.uniform((3, 3, 1), (37, 33, 11)), rng.uniform(1, 5)
        for mask in (truth, prediction):
            cx, cy, cz = centre + rng.normal(0, 0.7, 3)
            mask[(x - cx) ** 2 + (y - cy) ** 2 + (3 * (z - cz)) ** 2 < radius**2] = 1
    truth[30:, 30:, :] = 2
    affine = affine_of(kind)
    assert lesion_metrics(truth, prediction, affine) == as_measures(
        challenge_metrics(truth, prediction, affine)
    )


@pytest.mark.shared
@pytest.mark.parametrize("subject", ["Test/WMH_1", "Test/WMH_151", "Train/WMH_52"])
def test_equals_the_challenge_way_on_files_with_the_challenges_own_headers(
    shared, tmp_path, subject
):
    """Regions stand in for lesions; the headers are oblique, in single precision."""
    labels = nib.load(
        shared / "mirror" / "wmhlocalization" / "WMH_refined_labels" / f"{subject}.nii.gz"
    )
    regions = np.asarray(labels.dataobj)
    truth = np.where(regions == 20, 2, np.isin(regions, (12, 13, 30))).astype(np.float32)
    kept = np.random.default_rng(0).random(truth.shape) < 0.8
    prediction = (np.roll(truth == 1, 1, axis=0) & kept).astype(np.float32)
    files = [tmp_path / "wmh.nii.gz", tmp_path / "result.nii.gz"]
    for file, data in zip(files, (truth, prediction), strict=True):
        image = nib.Nifti1Image(data, None, labels.header)
        image.set_data_dtype(np.float32)
        nib.save(image, file)
    true, predicted = (load_labels(file) for file in files)
    theirs = challenge_metrics_of_images(*(sitk.ReadImage(str(file)) for file in files))
    assert lesion_metrics(true.data, predicted.data, true.affine) == as_measures(theirs)


def test_by_hand():
    truth, prediction = np.zeros((2, 8, 8, 4), dtype=np.uint8)
    truth[1:3, 1, 1] = 1  # two voxels
    truth[6, 6, 3] = 1  # missed
    prediction[2:4, 1, 1] = 1  # one voxel shared, one beside
    measures = lesion_metrics(truth, prediction, np.diag([1.0, 1.0, 3.0, 1.0]))
    far = np.sqrt(4**2 + 5**2 + 6**2)  # missed lesion (6, 6, 3) to prediction (2, 1, 1)
    near = np.sqrt(3**2 + 5**2 + 6**2)  # ... to prediction (3, 1, 1)
    assert far > near
    assert measures == as_measures(
        {
            "dice": 2 * 1 / (3 + 2),
            "hd95_mm": np.percentile([1, 0, near], 95),
            "avd_percent": 100 / 3,
            "lesion_recall": 1 / 2,
            "lesion_f1": 2 / 3,  # precision 1, recall 1/2
        }
    )


NOTHING = np.zeros((5, 5, 3), dtype=np.uint8)
ONE = NOTHING.copy()
ONE[2, 2, 1] = 1


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        (ONE, ONE, (1.0, 0.0, 0.0, 1.0, 1.0)),
        (ONE, NOTHING, (0.0, np.nan, 100.0, 0.0, 0.0)),
        (NOTHING, ONE, (0.0, np.nan, np.nan, 1.0, 0.0)),
        (NOTHING, NOTHING, (np.nan, np.nan, np.nan, 1.0, 1.0)),
        (ONE * 2, ONE, (np.nan, np.nan, np.nan, 1.0, 1.0)),
    ],
    ids=["one voxel", "nothing predicted", "nothing there", "neither", "only on label 2"],
)
def test_edges(truth, prediction, expected):
    measures = lesion_metrics(truth, prediction, np.eye(4))
    assert measures == as_measures(dict(zip(FIVE_MEASURES, expected, strict=True)))


def test_label_2_is_left_out_of_the_prediction():
    truth, prediction = np.zeros((2, 6, 6, 2), dtype=np.uint8)
    truth[1, 1, 0] = prediction[1, 1, 0] = 1
    truth[3:5, 3:5, 0] = 2
    prediction[3:5, 3:5, 0] = 1
    assert lesion_metrics(truth, prediction, np.eye(4))["dice"] == 1.0
    prediction[2, 3, 0] = 1  # what sticks out of label 2 counts
    assert lesion_metrics(truth, prediction, np.eye(4))["dice"] == pytest.approx(2 / 3)


@settings(max_examples=30, deadline=None)
@given(masks(), st.sampled_from([np.int16, np.float32, np.float64, np.uint8]), st.booleans())
def test_labels_are_taken_by_value_whatever_their_type(pair, kind, column_major):
    truth, prediction = (array.astype(kind, order="F" if column_major else "C") for array in pair)
    assert lesion_metrics(truth, prediction, np.eye(4)) == as_measures(
        lesion_metrics(*pair, np.eye(4))
    )


def test_a_prediction_may_be_boolean():
    assert lesion_metrics(ONE, ONE.astype(bool), np.eye(4))["dice"] == 1.0


@settings(max_examples=50, deadline=None)
@given(masks(), st.integers(0, 3))
def test_empty_slices_change_nothing(pair, margin):
    padded = [np.pad(mask, ((0, 0), (0, 0), (0, margin))) for mask in pair]
    assert lesion_metrics(*padded, np.eye(4)) == as_measures(lesion_metrics(*pair, np.eye(4)))


def test_outside_the_image_counts_as_foreground():
    full = np.ones((4, 4, 1), dtype=bool)
    assert not surface(full).any()
    assert surface(np.pad(full, ((1, 1), (1, 1), (0, 0)))).sum() == 12


def test_every_second_voxel_of_a_line_is_a_lesion():
    line = (np.arange(9) % 2 == 0).reshape(9, 1, 1)
    labels, count = connected_lesions(line)
    assert count == 5
    assert labels[:, 0, 0].tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5]


def test_the_square_includes_its_diagonals():
    plane = np.ones((5, 5, 1), dtype=bool)
    plane[1, 1, 0] = False
    assert surface(plane)[2, 2, 0]


def test_the_box_keeps_every_lesion_voxel():
    truth = np.zeros((30, 30, 10), dtype=np.uint8)
    truth[0, 5, 0] = truth[29, 20, 9] = 1
    pair = lesion_pair(truth, np.zeros_like(truth), np.eye(4))
    assert pair.true_voxels == 2
    assert pair.truth.shape == (30, 18, 10)


def test_shapes_must_agree():
    with pytest.raises(ImageError, match=r"\(5, 5, 2\).*Resample the prediction"):
        lesion_metrics(ONE, ONE[..., :2], np.eye(4))
