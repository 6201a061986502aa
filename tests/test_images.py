"""Images in and out: what is refused, and that grids and orientations survive."""

from __future__ import annotations

import errno
import gzip
import os
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wmh.images import (
    Image,
    ImageError,
    from_ras,
    load_image,
    load_labels,
    raise_unless_writable,
    resample_to,
    same_grid,
    save_image,
    to_ras,
    with_background_at_0,
)

AFFINE = np.array([[-1.0, 0, 0, 10], [0, -1.2, 0, 20], [0, 0, 3.0, -5], [0, 0, 0, 1]])


def ramp(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def problem(path: Path) -> str:
    """The message with which an image is refused; it must name the file."""
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_an_image_comes_back_with_its_values_grid_and_volume(tmp_path):
    image = load_image(write(tmp_path / "a.nii.gz", ramp()))
    assert image.data.dtype == np.float32
    np.testing.assert_array_equal(image.data, ramp())
    np.testing.assert_allclose(image.voxel_size, [1, 1.2, 3])
    assert image.voxel_ml == pytest.approx(0.0036)
    assert image.orientation == "LPS"


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path):
    assert load_image(write(tmp_path / "a.nii.gz", ramp()[..., None])).data.shape == (4, 5, 6)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in problem(tmp_path / "gone.nii.gz")


def test_a_folder_is_called_one(tmp_path):
    assert "is a folder. Name the NIfTI file in it" in problem(tmp_path)


def test_a_name_that_no_page_could_hold_is_refused(tmp_path):
    path = write(tmp_path / os.fsdecode(b"b\xfcro.nii"), ramp())
    with pytest.raises(ImageError, match="not in UTF-8") as caught:
        load_image(path)
    str(caught.value).encode()  # it can be printed and written


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.touch()
    assert "0 bytes" in problem(path)


def test_a_truncated_gzip_is_named(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).random((20, 20, 20)))
    path.write_bytes(path.read_bytes()[:-3000])
    assert "incomplete or damaged" in problem(path)


def test_a_compressed_file_with_one_bit_flipped_is_named(tmp_path):
    path = tmp_path / "a.nii.gz"
    plain = write(tmp_path / "a.nii", np.random.default_rng(0).random((20, 20, 20))).read_bytes()
    stored = bytearray(gzip.compress(plain, compresslevel=0))  # voxels lie in it as they are
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)
    assert "incomplete or damaged" in problem(path)


def test_a_file_that_is_not_nifti_is_named(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"patient;age\n1;70\n"))
    problem(path)


def test_a_surface_is_no_image(tmp_path):
    surface = nib.gifti.GiftiImage(darrays=[nib.gifti.GiftiDataArray(ramp((4, 3)))])
    nib.save(surface, tmp_path / "a.gii")
    assert "not a NIfTI image" in problem(tmp_path / "a.gii")


@pytest.mark.parametrize(
    ("size", "words"), [(0, "has no voxels (0, 5, 6)"), (-4, "cannot be read to its end")]
)
def test_a_header_without_voxels_is_named(tmp_path, size, words):
    path = write(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[42:44] = struct.pack("<h", size)  # the length of the first axis
    path.write_bytes(content)
    assert words in problem(path)


def test_a_4d_image_is_refused(tmp_path):
    assert "4 dimensions" in problem(write(tmp_path / "a.nii.gz", ramp((3, 3, 3, 2))))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(tmp_path, value):
    data = ramp()
    data[0, 0, :2] = value
    assert "2 voxels are NaN or infinite" in problem(write(tmp_path / "a.nii.gz", data))


def test_a_constant_image_is_refused(tmp_path):
    assert "every voxel is 7" in problem(write(tmp_path / "a.nii.gz", np.full((3, 3, 3), 7.0)))


def test_an_affine_that_cannot_be_inverted_is_refused(tmp_path):
    image = nib.Nifti1Image(ramp(), None)
    image.header["sform_code"] = 1
    image.header["srow_x"] = image.header["srow_y"] = [1, 0, 0, 0]
    image.header["srow_z"] = [0, 0, 1, 0]
    nib.save(image, tmp_path / "a.nii.gz")
    assert "cannot be inverted" in problem(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("size", [0.01, 50.0])
def test_an_absurd_voxel_size_is_refused(tmp_path, size):
    path = write(tmp_path / "a.nii.gz", ramp(), np.diag([size, 1, 1, 1]))
    assert "is impossible for a head scan" in problem(path)


def test_a_view_ten_times_too_large_is_refused(tmp_path):
    affine = np.diag([9.0, 9.0, 9.0, 1.0])
    said = problem(write(tmp_path / "a.nii.gz", ramp((100, 5, 6)), affine))
    assert "a field of view of 900 x 45 x 54 mm is larger than any scanner's" in said


def test_labels_are_taken_by_value_whatever_their_type(tmp_path):
    labels = np.array([0, 1, 2, 1] * 2).reshape(2, 2, 2)
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        read = load_labels(write(tmp_path / "a.nii.gz", labels.astype(kind)), {0, 1, 2})
        assert read.data.dtype == np.uint8
        np.testing.assert_array_equal(read.data, labels)


def test_an_empty_mask_is_allowed(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.uint8))
    assert not load_labels(path, {0, 1, 2}).data.any()


def test_unknown_labels_are_named_with_those_allowed(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.array([0, 3], np.uint8).reshape(2, 1, 1))
    with pytest.raises(ImageError, match=r"labels 3 .*Allowed are 0, 1, 2"):
        load_labels(path, {0, 1, 2})


def test_a_mask_of_0_and_255_gets_its_own_remedy(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.array([0, 255], np.uint8).reshape(2, 1, 1))
    with pytest.raises(ImageError, match="Divide the mask by 255"):
        load_labels(path, {0, 1, 2})


def test_labels_between_whole_numbers_are_refused(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.array([0, 0.5], np.float32).reshape(2, 1, 1))
    with pytest.raises(ImageError, match="not whole numbers"):
        load_labels(path)


def test_a_saved_image_lies_where_its_reference_lies(tmp_path):
    like = load_image(write(tmp_path / "like.nii.gz", ramp()))
    path = save_image(tmp_path / "new" / "mask.nii.gz", like.data > 50, like)
    read = nib.load(path)
    assert read.get_data_dtype() == np.uint8
    np.testing.assert_allclose(read.affine, like.affine)
    assert read.header["sform_code"] > 0
    assert read.header["qform_code"] > 0
    assert read.header.get_xyzt_units()[0] == "mm"
    assert [p.name for p in path.parent.iterdir()] == ["mask.nii.gz"]


def test_equal_data_give_equal_bytes(tmp_path):
    like = Image(ramp(), AFFINE)
    first = save_image(tmp_path / "a" / "x.nii.gz", ramp(), like)
    second = save_image(tmp_path / "b" / "x.nii.gz", ramp(), like)
    assert first.read_bytes() == second.read_bytes()


def test_data_of_another_shape_are_not_saved(tmp_path):
    with pytest.raises(ImageError, match="do not fit the grid"):
        save_image(tmp_path / "a.nii.gz", ramp((2, 2, 2)), Image(ramp(), AFFINE))
    assert not (tmp_path / "a.nii.gz").exists()


def test_grids_are_equal_within_a_twentieth_of_a_millimetre():
    near, far = AFFINE.copy(), AFFINE.copy()
    near[0, 3] += 0.04
    far[0, 3] += 0.2
    image = Image(ramp(), AFFINE)
    assert same_grid(image, Image(ramp(), near))
    assert not same_grid(image, Image(ramp(), far))
    assert not same_grid(image, Image(ramp((4, 5, 7)), AFFINE))


def test_resampling_follows_the_headers():
    shifted = AFFINE.copy()
    shifted[:3, 3] += AFFINE[:3, 2]  # one slice further
    moved = resample_to(Image(ramp(), AFFINE), Image(ramp(), shifted))
    np.testing.assert_allclose(moved.data[:, :, :-1], ramp()[:, :, 1:], rtol=1e-5)


def test_images_that_do_not_overlap_are_refused():
    away = AFFINE.copy()
    away[:3, 3] += 1000
    with pytest.raises(ImageError, match="does not overlap"):
        resample_to(Image(ramp() + 1, AFFINE), Image(ramp(), away))


@given(order=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([-1, 1])] * 3))
def test_any_orientation_goes_to_ras_and_back(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[order] * np.array(signs)
    image = Image(ramp(), affine)
    ras = to_ras(image)
    assert ras.orientation == "RAS"
    np.testing.assert_array_equal(from_ras(ras.data, image), image.data)


@pytest.mark.parametrize(("stored", "slope"), [(255, 0.998 / 255), (1, 0.998), (7, 0.05)])
def test_a_mask_that_its_header_scales_is_read_as_0_and_1_and_said(tmp_path, stored, slope):
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[2:4, 2, 1] = stored
    image = nib.Nifti1Image(mask, np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, tmp_path / "mask.nii.gz")
    with pytest.warns(
        UserWarning, match=r"mask\.nii\.gz: .* values 0 and 0\.\d+ are read as 0 and 1"
    ):
        labels = load_labels(tmp_path / "mask.nii.gz", {0, 1, 2})
    assert np.array_equal(labels.data, mask > 0)


def test_a_probability_is_no_mask(tmp_path):
    likely = np.zeros((6, 5, 4), np.float32)
    likely[2:4, 2, 1] = 0.7
    nib.save(nib.Nifti1Image(likely, np.eye(4)), tmp_path / "likely.nii.gz")
    with pytest.raises(ImageError, match="not whole numbers"):
        load_labels(tmp_path / "likely.nii.gz")


def headed(path: Path, qform: int, sform: int, turned_by: float = 0.0, mirrored: bool = False):
    """An image with these form codes, its qform turned (degrees) or mirrored against its sform."""
    image = nib.Nifti1Image(ramp(), AFFINE)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", turned_by, degrees=True).as_matrix()
    image.set_sform(AFFINE, sform)
    image.set_qform(turn @ AFFINE @ np.diag([-1.0 if mirrored else 1.0, 1, 1, 1]), qform)
    image.header["qform_code"], image.header["sform_code"] = qform, sform
    nib.save(image, path)
    return path


def test_a_header_that_leaves_left_and_right_open_is_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    assert "does not give the orientation" in problem(headed(path, 0, 0))
    assert "disagree on left and right" in problem(headed(path, 1, 2, mirrored=True))
    assert "disagree on orientation" in problem(headed(path, 1, 2, turned_by=90))
    for agreeing in ((1, 0), (0, 2), (1, 2)):
        load_image(headed(path, *agreeing, turned_by=6))  # as a registration leaves it
    analyze = nib.AnalyzeImage(ramp(), None)
    nib.save(analyze, tmp_path / "old.img")
    assert "does not give the orientation" in problem(tmp_path / "old.img")


def test_where_sides_do_not_matter_labels_may_leave_them_open(tmp_path):
    path = headed(tmp_path / "a.nii.gz", 0, 0)
    with pytest.raises(ImageError, match="does not give the orientation"):
        load_labels(path)
    assert load_labels(path, sided=False).data.max() == 119


def test_colours_and_complex_numbers_are_refused(tmp_path):
    colours = np.zeros((4, 5, 6), np.dtype([(c, "u1") for c in "RGB"]))
    assert "its voxels hold colours" in problem(write(tmp_path / "a.nii.gz", colours))
    waves = ramp().astype(np.complex64)
    assert "its voxels hold complex numbers" in problem(write(tmp_path / "b.nii.gz", waves))


def ball(background: float = 0.0, noise: float = 0.0) -> np.ndarray:
    """Grey, white and dark tissue in a ball, all around it air."""
    x, y, z = np.indices((32, 32, 32)) - 15.5
    radius = np.sqrt(x**2 + y**2 + z**2)
    data = np.select([radius < 4, radius < 8, radius < 12], [10.0, 100.0, 80.0], 0.0)
    air = np.abs(np.random.default_rng(0).normal(0, noise, data.shape)) if noise else 0.0
    return (data + air + background).astype(np.float32)


@pytest.mark.parametrize("background", [0.0, -1.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_an_image_whose_background_is_near_0_stays_as_it_is(background, noise):
    data = ball(background, noise)
    assert with_background_at_0(data) is data


@pytest.mark.parametrize("offset", [1000.0, -1024.0])
def test_a_background_elsewhere_becomes_0(offset):
    np.testing.assert_allclose(with_background_at_0(ball(offset)), ball(), atol=1e-3)


def test_a_standardised_image_has_its_background_at_0():
    data, inside = ball(), ball() > 0
    whole = with_background_at_0((data - data.mean()) / data.std())
    np.testing.assert_allclose(whole * data.std(), data, atol=1e-3)
    head = np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0)
    found = with_background_at_0(head.astype(np.float32)) * data[inside].std()
    assert not found[~inside].any()
    np.testing.assert_allclose(found[inside], data[inside] - 10, atol=1e-3)


def test_where_nothing_can_be_written_is_said_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path, image, words in (
        (tmp_path / "x", True, "Let the name end in .nii.gz"),
        (tmp_path / "file/x.nii.gz", True, "is a file, not a folder"),
        (tmp_path / "file", False, "is a file, not a folder"),
    ):
        with pytest.raises(ImageError, match=re.escape(words)):
            raise_unless_writable(path, image)
    raise_unless_writable(tmp_path / "new/folder")
    raise_unless_writable(tmp_path / "new/x.nii.gz", image=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def read_only(**_: object):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(ImageError, match="Read-only file system"):
        raise_unless_writable(tmp_path / "new/folder")


@pytest.mark.parametrize(
    ("written", "named", "remedy"),
    [
        ("a.nii", "b.nii.gz", "It is not compressed: end its name in .nii"),
        ("a.nii.gz", "b.nii", "It is compressed: end its name in .nii.gz"),
    ],
)
def test_a_name_that_says_wrongly_whether_it_is_compressed(tmp_path, written, named, remedy):
    nib.save(nib.Nifti1Image(np.eye(4, dtype=np.float32)[..., None], np.eye(4)), tmp_path / written)
    (tmp_path / written).rename(tmp_path / named)
    with pytest.raises(ImageError, match=f"{named}: not a NIfTI image .*{remedy}"):
        load_image(tmp_path / named)
