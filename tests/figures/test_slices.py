"""Pictures of slices: sides, orientation, colours of errors, and which slices are shown."""

import warnings
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from wmh.analysis.burden import regional_burden
from wmh.figures.sheets import montage, overlay, overview, telling_slices
from wmh.figures.slices import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    draw_errors,
    draw_labels,
    draw_outline,
    draw_slice,
    fullest_slice,
    grey_window,
    head_box,
    region_colours,
    spread_slices,
)
from wmh.images import Image

ORIENTATIONS = [
    "".join(letters[place][flip] for place, flip in zip(order, flips, strict=True))
    for letters in [("RL", "AP", "SI")]
    for order in permutations(range(3))
    for flips in product((0, 1), repeat=3)
]


def axes():
    return Figure().subplots()


def head(shape=(20, 24, 10)) -> Image:
    """A block of tissue whose brightness rises to the right, the front and the top; RAS, 2 mm."""
    data = np.zeros(shape, dtype=np.float32)
    x, y, z = np.indices(shape)
    inside = (slice(4, 16), slice(3, 21), slice(1, 9))
    data[inside] = (100 + 3 * x + 2 * y + z)[inside]
    return Image(data, nib.affines.from_matvec(np.diag([2.0, 2.0, 3.0]), [-20, -20, -10]))


def mask(*voxels: tuple[int, int, int], shape=(20, 24, 10)) -> Image:
    data = np.zeros(shape, dtype=np.uint8)
    for voxel in voxels:
        data[voxel] = 1
    return Image(data, head(shape).affine)


def turned(image: Image, codes: str) -> Image:
    """The same image with its array axes in another order and direction."""
    change = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    shown = nib.Nifti1Image(image.data, image.affine).as_reoriented(change)
    return Image(np.asarray(shown.dataobj), shown.affine)


def test_the_left_of_the_picture_is_the_subjects_left():
    left = mask((5, 12, 4))  # x = -10 mm
    shown = axes()
    draw_labels(shown, left, 4)
    picture = shown.images[0].get_array()[..., 3]
    row, column = np.argwhere(picture > 0)[0]
    assert (row, column) == (12, 5)
    assert shown.get_xlim()[0] < shown.get_xlim()[1]
    draw_slice(shown, head(), 4)
    placed = {text.get_text(): text.get_position()[0] for text in shown.texts}
    assert placed["L"] < 0.5 < placed["R"]


@given(st.sampled_from(ORIENTATIONS))
def test_an_image_looks_the_same_in_whatever_orientation_it_is_stored(codes):
    first, second = axes(), axes()
    draw_slice(first, head(), 4, head_box(head()))
    stored = turned(head(), codes)
    draw_slice(second, stored, 4, head_box(stored))
    np.testing.assert_array_equal(first.images[0].get_array(), second.images[0].get_array())
    assert first.get_aspect() == second.get_aspect()


def test_errors_are_coloured_by_kind_and_other_pathology_is_left_out():
    truth = mask((1, 1, 0), (2, 1, 0), shape=(6, 4, 1))
    truth.data[3, 1, 0] = 2
    found = mask((1, 1, 0), (3, 1, 0), (4, 1, 0), shape=(6, 4, 1))
    shown = axes()
    draw_errors(shown, truth, found, 0)
    picture = shown.images[0].get_array()[1]
    assert tuple(picture[1]) == to_rgba(TRUE_POSITIVE)
    assert tuple(picture[2]) == to_rgba(FALSE_NEGATIVE)
    assert picture[3, 3] == 0
    assert tuple(picture[4]) == to_rgba(FALSE_POSITIVE)
    assert np.count_nonzero(shown.images[0].get_array()[..., 3]) == 3


def test_an_outline_runs_round_its_mask():
    shown = axes()
    draw_outline(shown, mask((5, 12, 4), (6, 12, 4)), 4, "red")
    edges = np.array(shown.collections[0].get_segments())
    assert edges.shape == (6, 2, 2)
    corners = edges.reshape(-1, 2)
    np.testing.assert_allclose(
        [corners.min(axis=0), corners.max(axis=0)], [[4.5, 11.5], [6.5, 12.5]]
    )
    assert (np.abs(np.diff(edges, axis=1)).sum(axis=2) == 1).all()
    _, met = np.unique(corners, axis=0, return_counts=True)
    assert (met == 2).all()  # it is closed


@pytest.mark.parametrize("label", [0, 2])
def test_only_lesion_has_an_outline(label):
    shown, other = axes(), mask((5, 12, 4))
    other.data[other.data == 1] = label
    draw_outline(shown, other, 4, "red")
    assert not shown.collections[0].get_segments()


def test_the_fullest_slice_counts_along_the_head():
    assert fullest_slice(mask((1, 1, 2), (1, 2, 2), (9, 9, 7))) == 2
    assert fullest_slice(turned(mask((1, 1, 2), (1, 2, 2), (9, 9, 7)), "SPL")) == 2


def test_slices_spread_over_the_mask_and_leave_its_ends_out():
    filled = mask(*[(3, 3, z) for z in range(2, 9)])
    assert spread_slices(filled, 2) == [4, 6]
    assert spread_slices(mask((3, 3, 7)), 4) == [7]
    assert spread_slices(mask(), 4) == [5]


def test_slices_of_a_page_show_each_part_of_the_lesions():
    lesions = mask((3, 3, 1), (3, 3, 2), (4, 3, 2), (3, 3, 7), (3, 3, 8), (4, 3, 8))
    regions = mask(*[(x, y, z) for x in range(5) for y in range(5) for z in range(10)])
    assert telling_slices(lesions, regions, 2) == [2, 8]
    speck = mask(*[(x, y, 3) for x in range(5) for y in range(5)], (3, 3, 9))
    assert 9 not in telling_slices(speck, regions, 2)  # one voxel near the crown is no lesion part
    assert telling_slices(mask(), regions, 3) == spread_slices(regions, 3)
    assert len(telling_slices(mask((3, 3, 2)), regions, 4)) == 4


def test_what_is_taken_for_lesion_in_the_face_is_not_what_a_page_shows():
    face = [(x, y, z) for x in range(8, 12) for y in range(8, 12) for z in range(2)]
    regions = mask(*[(x, 3, z) for x in range(5) for z in range(5, 10)])
    assert telling_slices(mask(*face, (3, 3, 6)), regions, 1) == [6]
    shown = telling_slices(mask(*face), regions, 3)
    assert shown == spread_slices(regions, 3) and min(shown) >= 5


def test_the_box_holds_the_head_and_its_margin():
    across, along = head_box(head(), margin_mm=4)
    assert (across.start, across.stop, along.start, along.stop) == (2, 18, 1, 23)


def test_fat_under_the_scalp_does_not_darken_the_brain():
    fatty = head()
    fatty.data[4:16, 3, :] = 2000
    fatty.data[4, 3:21, :] = 2000
    assert grey_window(fatty)[1] < 250


def test_regions_have_37_colours_in_which_left_and_right_share_a_hue():
    colours = np.array(region_colours().colors)
    assert colours.shape == (37, 4)
    assert colours[0, 3] == 0
    assert len(np.unique(colours[1:35, :3].round(6), axis=0)) == 34
    left, right = colours[1:18, :3], colours[18:35, :3]
    assert (left.sum(axis=1) > right.sum(axis=1)).all()
    np.testing.assert_array_equal(left.argmax(axis=1), right.argmax(axis=1))


@pytest.mark.parametrize("given_images", [["FLAIR"], ["T1"], ["FLAIR", "T1"]])
@pytest.mark.parametrize("lesions", [mask(), mask((6, 8, 3), (7, 8, 3), (6, 9, 5))])
def test_the_page_about_a_scan_says_what_it_is(given_images, lesions):
    regions = mask()
    regions.data[4:10, 4:20, 2:8], regions.data[10:16, 4:20, 2:8] = 12, 29
    burden = regional_burden(lesions.data, regions.data, lesions.voxel_ml)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = {name: head() for name in given_images}
        page = overview(images, lesions, regions, burden, "model x of study y")
        page.draw_without_rendering()
    words = [text.get_text() for part in page.subfigs for text in part.texts]
    volume = lesions.data.sum() * lesions.voxel_ml
    assert f"White matter lesions: {volume:.1f} ml" in words
    assert any("not for diagnosis" in text for text in words)
    assert "model x of study y" in words
    labels = [panel.get_ylabel() for panel in page.subfigs[1].axes]
    assert [name for name in given_images if f"{name}\nlesions outlined" in labels] == given_images


def test_burden_bars_point_to_the_side_of_the_lesion():
    lesions = mask((6, 8, 3), (7, 8, 3))
    regions = mask()
    regions.data[4:10, 4:20, 2:8], regions.data[10:16, 4:20, 2:8] = 12, 29
    burden = regional_burden(lesions.data, regions.data, lesions.voxel_ml)
    page = overview({"FLAIR": head()}, lesions, regions, burden, "")
    widths = pd.Series([bar.get_width() for bar in page.subfigs[2].axes[0].patches])
    assert widths.min() == pytest.approx(-2 * lesions.voxel_ml)
    assert widths.max() == 0


def test_sheets_have_a_picture_for_each_slice():
    labels = mask(*[(6, 8, z) for z in range(1, 9)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = {"FLAIR": (head(), labels), "T1": (head(), mask())}
        assert len(montage(pairs, count=3).axes) == 6
        assert len(overlay(head(), labels, count=4).axes) == 4
