"""Brain maps of figures: lesions and values lie where they belong."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from wmh.atlas.regions import built_in_atlas
from wmh.figures.brain import ColourScale, draw_brain_map, paint_regions
from wmh.figures.frequency import carry_to_mni, matrix_to_mni
from wmh.images import Image, ImageError


def test_regions_are_painted_with_their_values():
    painted = paint_regions({1: 0.5, 34: 0.0, 2: float("nan")})
    atlas, values = built_in_atlas(2).data, painted.data
    assert (values[atlas == 1] == 0.5).all()
    assert (values[atlas == 34] > 0).all()
    assert not values[(atlas != 1) & (atlas != 34)].any()


def test_regions_tell_the_way_to_mni():
    atlas = built_in_atlas(4)
    way = nib.affines.from_matvec(
        [[1.1, 0.05, 0.0], [-0.04, 0.95, 0.1], [0.0, -0.1, 1.02]], [5.0, -8.0, 12.0]
    )
    subject = Image(atlas.data, np.linalg.inv(way) @ atlas.affine)
    at = nib.affines.apply_affine(subject.affine, np.argwhere(atlas.data == 13))
    found = nib.affines.apply_affine(matrix_to_mni(subject), at)
    wanted = nib.affines.apply_affine(way, at)
    assert np.abs(found - wanted).max() < 1.5  # mm; the atlas of 2 mm has other voxels


def test_the_way_to_mni_needs_regions():
    few = Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.eye(4))
    with pytest.raises(ImageError, match="holds 7 regions"):
        matrix_to_mni(few)


def test_lesions_land_at_their_place_in_mni():
    lesions = Image(np.zeros((9, 9, 9), dtype=np.uint8), np.diag([2.0, 2, 2, 1]))
    lesions.data[4, 4, 4], lesions.data[0, 0, 0] = 1, 2
    moved = carry_to_mni(lesions, nib.affines.from_matvec(np.eye(3), [10, 20, 30]))
    centre = np.average(
        nib.affines.apply_affine(moved.affine, np.argwhere(moved.data > 0)),
        axis=0,
        weights=moved.data[moved.data > 0],
    )
    np.testing.assert_allclose(centre, [18, 28, 38], atol=1e-3)
    assert moved.data.sum() == pytest.approx(1, abs=1e-3)
    assert not carry_to_mni(Image(lesions.data * 0, lesions.affine), np.eye(4)).data.any()


@pytest.mark.parametrize("place", [(-20.9, -20.9, 0), (-150, -150, -90)])
def test_a_lesion_between_or_beyond_the_templates_voxels_is_no_error(place):
    lesion = Image(
        np.ones((1, 1, 1), dtype=np.uint8), nib.affines.from_matvec(np.eye(3) / 2, place)
    )
    assert not carry_to_mni(lesion, np.eye(4)).data.any()


def test_brain_maps_show_the_subjects_left_on_the_left():
    figure = Figure()
    axes = figure.subplots()
    draw_brain_map(axes, paint_regions(dict.fromkeys(range(1, 18), 0.5)), ColourScale((0, 1), ""))
    cut = figure.axes[-1]
    drawn = cut.images[-1]
    left, right, *_ = drawn.get_extent()
    filled = ~np.ma.getmaskarray(np.ma.masked_invalid(drawn.get_array()))
    columns = np.argwhere(filled)[:, 1] / filled.shape[1] * (right - left) + left
    assert columns.mean() < -5
    assert cut.get_xlim()[0] < cut.get_xlim()[1]


def test_brain_maps_without_any_value_show_the_template_alone():
    figure = Figure()
    axes = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        draw_brain_map(axes, paint_regions({}), ColourScale((0, 1), ""))
    assert len(figure.axes[-1].images) == 1


def test_brain_maps_draw_values_below_the_limits_too():
    figure = Figure()
    axes = figure.subplots()
    draw_brain_map(axes, paint_regions(dict.fromkeys(range(1, 35), 0.1)), ColourScale((0.4, 1), ""))
    drawn = figure.axes[-1].images[-1].get_array()
    assert np.ma.count(drawn) > 100
    assert drawn.max() == pytest.approx(0.4, abs=1e-3)
