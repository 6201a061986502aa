"""The atlas against what others published: label images of six subjects, and the Eve atlas."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.region_fits import displaced_heads
from wmh.atlas.atlases import built_in, jhu
from wmh.atlas.grids import voxel_centres
from wmh.atlas.labelling import label_image
from wmh.atlas.published import compare_with_published
from wmh.atlas.regions import ALL_LABELS, REGION_LABELS, region_dice
from wmh.atlas.registration import carry_labels, register_atlas
from wmh.images import load_image, load_labels, save_image

pytestmark = pytest.mark.shared


def mean_dice(truth: np.ndarray, carried: np.ndarray) -> float:
    return float(np.nanmean(region_dice(truth, carried)[list(REGION_LABELS)]))


def test_our_labels_agree_with_the_published_ones(shared):
    """A naive fit of the same white matter reached 0.60 to 0.86, 0.76 on average."""
    atlas = jhu(shared / "mirror")
    dice = []
    for path in sorted((shared / "mirror").glob("wmhlocalization/WMH_refined_labels/*/*.nii.gz")):
        published = load_labels(path, ALL_LABELS)
        white = replace(published, data=(published.data > 0).astype(np.uint8))
        fit = register_atlas(white, atlas.cerebral_white_matter, seed=1)
        assert fit.doubt is None
        dice.append(mean_dice(published.data, carry_labels(atlas.labels, fit, white).data))
    assert len(dice) == 6
    assert np.mean(dice) > 0.84
    assert min(dice) > 0.75


def test_ours_are_compared_where_ids_and_grids_agree_and_carried_else(shared, tmp_path):
    path = next((shared / "mirror").glob("wmhlocalization/WMH_refined_labels/*/WMH_52.nii.gz"))
    theirs, atlas = load_labels(path, ALL_LABELS), jhu(shared / "mirror")
    half = np.where(np.arange(theirs.data.shape[2]) % 2, theirs.data, 0)
    save_image(tmp_path / "same/52.nii.gz", half, theirs)
    table = compare_with_published(tmp_path / "same", {"52": path}, atlas, seed=1)
    assert list(table["region"]) == list(REGION_LABELS)
    assert set(table["white_matter"]) == {"ours"}
    expected = region_dice(theirs.data, half)[1:35]
    assert np.allclose(table["dice"], expected)
    cut = replace(theirs, data=theirs.data[:-1])
    save_image(tmp_path / "other/52.nii.gz", cut.data, cut)
    table = compare_with_published(tmp_path / "other", {"52": path}, atlas, seed=1)
    assert set(table["white_matter"]) == {"published"}
    assert table["dice"].mean() > 0.85


def test_a_displaced_head_loses_nothing(shared):
    """The Eve atlas, turned, shifted and scaled, on an oblique grid of 1 x 1 x 3 mm."""
    dice = []
    for white, truth in displaced_heads(shared / "mirror", count=3):
        fit = register_atlas(white, built_in().white_matter, seed=1)
        mask = replace(white, data=(white.data > 0.5).astype(np.uint8))
        carried = carry_labels(built_in().labels, fit, mask).data
        assert fit.doubt is None
        dice.append(mean_dice(truth.data * mask.data, carried))
    undisplaced, *displaced = dice
    assert undisplaced > 0.77
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
