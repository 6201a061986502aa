"""Images in and out: what is refused, and that grids and orientations survive."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmh.images import (
    Image,
    ImageError,
    from_ras,
    load_image,
    load_labels,
    resample_to,
    same_grid,
    save_image,
    to_ras,
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


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.touch()
    assert "0 bytes" in problem(path)


def test_a_truncated_gzip_is_named(tmp_path):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(0).random((20, 20, 20)))
    path.write_bytes(path.read_bytes()[:-3000])
    assert "cut short or damaged" in problem(path)


def test_a_file_that_is_not_nifti_is_named(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"patient;age\n1;70\n"))
    problem(path)


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
    assert "is not one of a head scan" in problem(path)


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
    with pytest.raises(ImageError, match="divided by 255"):
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
    with pytest.warns(UserWarning, match=r"mask\.nii\.gz: its 0 and 0\.\d+ are read as 0 and 1"):
        labels = load_labels(tmp_path / "mask.nii.gz", {0, 1, 2})
    assert np.array_equal(labels.data, mask > 0)


def test_a_probability_is_no_mask(tmp_path):
    likely = np.zeros((6, 5, 4), np.float32)
    likely[2:4, 2, 1] = 0.7
    nib.save(nib.Nifti1Image(likely, np.eye(4)), tmp_path / "likely.nii.gz")
    with pytest.raises(ImageError, match="not whole numbers"):
        load_labels(tmp_path / "likely.nii.gz")
