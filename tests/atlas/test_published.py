"""The atlas against what others published: label images of six subjects, and the Eve atlas."""

from dataclasses import replace

import numpy as np
import pytest

from tests.atlas.heads import displacement
from wmh.atlas.grids import interpolate, sample, voxel_centres
from wmh.atlas.labelling import label_image, region_dice
from wmh.atlas.regions import REGION_LABELS
from wmh.atlas.registration import carry_labels, register_atlas
from wmh.atlas.source import built_in, jhu
from wmh.images import Image, load_image, load_labels

pytestmark = pytest.mark.shared


def mean_dice(truth: np.ndarray, carried: np.ndarray) -> float:
    return float(np.nanmean(region_dice(truth, carried)[list(REGION_LABELS)]))


def test_our_labels_agree_with_the_published_ones(shared):
    """A naive fit of the same white matter reached 0.60 to 0.86, 0.76 on average."""
    atlas = jhu(shared / "mirror")
    dice = []
    for path in sorted((shared / "mirror").glob("wmhlocalization/WMH_refined_labels/*/*.nii.gz")):
        published = load_labels(path, range(37))
        white = replace(published, data=(published.data > 0).astype(np.uint8))
        fit = register_atlas(white, atlas.cerebral_white_matter, seed=1)
        assert fit.doubt is None
        dice.append(mean_dice(published.data, carry_labels(atlas.labels, fit, white).data))
    assert len(dice) == 6
    assert np.mean(dice) > 0.84
    assert min(dice) > 0.75


def test_a_displaced_head_loses_nothing(shared):
    """The Eve atlas, turned, shifted and scaled, on an oblique grid of 1 x 1 x 3 mm."""
    eve = jhu(shared / "mirror")
    white = load_image(eve.white_matter.path)
    dice = []
    for matrix in (np.eye(4), *(random_displacement(seed) for seed in range(3))):
        moved, truth = on_oblique_grid(white, eve.labels, matrix)
        fit = register_atlas(moved, built_in().white_matter, seed=1)
        mask = replace(moved, data=(moved.data > 0.5).astype(np.uint8))
        carried = carry_labels(built_in().labels, fit, mask).data
        assert fit.doubt is None
        dice.append(mean_dice(np.where(truth.data > 0, truth.data * mask.data, 0), carried))
    undisplaced, *displaced = dice
    assert undisplaced > 0.78
    assert np.median(displaced) > undisplaced - 0.02
    assert min(displaced) > undisplaced - 0.05


def test_regions_of_a_real_head_lie_on_their_sides_within_the_brain(shared):
    folder = shared / "real" / "head12"
    t1, flair = load_image(folder / "T1.nii.gz"), load_image(folder / "FLAIR.nii.gz")
    labels, fit = label_image(t1, flair, built_in(), "affine", seed=1)
    assert labels.data.shape == flair.data.shape
    assert fit.doubt is None
    assert fit.white_matter_dice > 0.65
    left, right = ((labels.data > a) & (labels.data < b) for a, b in ((0, 18), (17, 35)))
    assert np.percentile(voxel_centres(labels, left)[:, 0], 99) < 2
    assert np.percentile(voxel_centres(labels, right)[:, 0], 1) > -2
    assert 350 < np.count_nonzero(labels.data) * labels.voxel_ml < 650


def random_displacement(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return displacement(
        tuple(generator.uniform(-30, 30, 3)),
        tuple(generator.uniform(-40, 40, 3)),
        tuple(generator.uniform(0.85, 1.15, 3)),
    )


def on_oblique_grid(white: Image, labels: Image, matrix: np.ndarray) -> tuple[Image, Image]:
    """White matter and labels moved by a matrix, resampled to a tilted grid of 1 x 1 x 3 mm."""
    tilt = displacement((15, -10, 12))[:3, :3]
    inside = voxel_centres(white, white.data > 0.5) @ matrix[:3, :3].T + matrix[:3, 3]
    along = inside @ tilt
    low, high = along.min(axis=0) - 10, along.max(axis=0) + 10
    shape = tuple(np.ceil((high - low) / (1, 1, 3)).astype(int))
    grid = np.eye(4)
    grid[:3, :3], grid[:3, 3] = tilt * (1, 1, 3), tilt @ low
    empty = Image(np.zeros(shape, dtype=np.float32), grid)
    back = np.linalg.inv(matrix)
    points = voxel_centres(empty) @ back[:3, :3].T + back[:3, 3]
    return (
        replace(empty, data=interpolate(white, points).reshape(shape)),
        replace(empty, data=sample(labels, points).reshape(shape)),
    )
