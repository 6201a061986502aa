"""The regions: their table, the merge of the JHU labels, and the built-in atlas."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from wmh.atlas import regions
from wmh.images import ImageError


def test_regions_are_34_and_two_rest_labels_with_17_a_side():
    assert [r.label for r in regions.REGIONS] == list(range(1, 37))
    left = [r for r in regions.REGIONS if r.side == "left"]
    assert [r.label for r in left] == [*range(1, 18), 35]
    names = [r.name for r in regions.REGIONS]
    assert len(set(names)) == 36
    assert regions.region_name(29) == "Corona radiata (superior) / SLF, right"


def test_every_jhu_label_is_merged_into_one_region_of_its_side():
    table = pd.read_csv(Path(regions.__file__).parent / "facts/jhu_type2_to_refined.csv")
    assert sorted(table["jhu_label"]) == list(regions.JHU_LABELS[1:])
    for label, name in zip(table["refined_label"], table["jhu_name"], strict=True):
        wrong = {"left": "_right", "right": "_left"}[regions.REGIONS[label - 1].side]
        assert not name.endswith(wrong)


def test_mirroring_swaps_sides_and_is_its_own_inverse():
    mirror = regions.mirror_labels()
    assert np.array_equal(mirror[mirror], np.arange(37))
    for region in regions.REGIONS:
        other = regions.REGIONS[mirror[region.label] - 1]
        assert (other.structure, other.side) != (region.structure, region.side)
        assert other.structure == region.structure


def test_merge_mirrors_with_the_jhu_labels():
    """JHU label n + 65 is the mirror image of n."""
    jhu = np.arange(1, 66)
    assert np.array_equal(
        regions.merge_jhu(jhu + 65), regions.mirror_labels()[regions.merge_jhu(jhu)]
    )


@pytest.mark.parametrize(
    ("jhu", "refined"),
    [
        (0, 0),
        (1, 1),
        (8, 1),
        (25, 15),
        (28, 35),
        (38, 12),
        (43, 12),
        (54, 17),
        (103, 29),
        (130, 36),
    ],
)
def test_merge_of_known_labels(jhu, refined):
    merged = regions.merge_jhu(np.full((2, 2, 2), jhu, dtype=np.int16))
    assert merged.dtype == np.uint8
    assert (merged == refined).all()


@pytest.mark.parametrize("label", [-1, 131])
def test_merge_refuses_a_label_the_atlas_does_not_have(label):
    with pytest.raises(ImageError, match=f"label {label} is not one of the JHU"):
        regions.merge_jhu(np.array([0, label]))


def test_built_in_atlas_fills_the_white_matter_and_nothing_else():
    atlas, white = regions.built_in_atlas(), regions.mni_white_matter()
    assert atlas.data.dtype == np.uint8
    assert np.array_equal(atlas.affine, white.affine)
    assert np.array_equal(atlas.data > 0, white.data > 0.5)
    assert set(np.unique(atlas.data)) == set(range(37))


def test_built_in_atlas_has_left_regions_on_the_left():
    atlas = regions.built_in_atlas(2)
    for region in regions.REGIONS:
        x = nib.affines.apply_affine(atlas.affine, np.argwhere(atlas.data == region.label))[:, 0]
        assert (x.mean() < 0) == (region.side == "left")


def test_templates_are_those_that_nilearn_loads():
    from nilearn import datasets

    for ours, theirs in (
        (regions.mni_t1, datasets.load_mni152_template),
        (regions.mni_white_matter, datasets.load_mni152_wm_template),
        (regions.mni_grey_matter, datasets.load_mni152_gm_template),
    ):
        for resolution in (1, 2):
            known, found = theirs(resolution=resolution), ours(resolution)
            np.testing.assert_allclose(found.data, known.get_fdata(dtype=np.float32), atol=1e-6)
            np.testing.assert_array_equal(found.affine, known.affine)


def test_templates_share_a_grid_and_cannot_be_changed_by_a_caller():
    t1, grey = regions.mni_t1(2), regions.mni_grey_matter(2)
    assert t1.data.shape == grey.data.shape == regions.mni_white_matter(2).data.shape
    assert t1.data.max() <= 1
    with pytest.raises(ValueError, match="read-only"):
        t1.data[0, 0, 0] = 1
    assert regions.mni_t1(2) is t1


@pytest.mark.shared
def test_merge_equals_the_fact_table_and_the_published_images_voxel_by_voxel(shared):
    facts = pd.read_csv(shared / "reference" / "jhu_type2_to_refined.csv")
    assert np.array_equal(regions.merge_jhu(facts["jhu_label"]), facts["refined_label"])
    mirror = shared / "mirror"
    jhu = nib.load(mirror / "eve_atlas" / "JHU_MNI_SS_WMPM_Type-II.nii.gz")
    refined = nib.load(mirror / "wmhlocalization" / "36_labels_merged.nii.gz")
    merged = regions.merge_jhu(np.asanyarray(jhu.dataobj))
    assert np.array_equal(merged, np.asanyarray(refined.dataobj))


@pytest.mark.shared
def test_built_in_atlas_has_the_published_centroids(shared):
    table = pd.read_csv(shared / "reference" / "refined_regions.csv").set_index("refined_label")
    atlas = regions.built_in_atlas(2)
    for label in regions.REGION_LABELS:
        points = nib.affines.apply_affine(atlas.affine, np.argwhere(atlas.data == label))
        published = table.loc[label, ["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]]
        assert np.linalg.norm(points.mean(axis=0) - published.to_numpy(float)) < 8
