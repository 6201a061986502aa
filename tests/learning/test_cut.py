from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmh.images import Image, ImageError
from wmh.learning.cut import MULTIPLE, as_thick, find_head, normalise, plan_slices


def head_image(codes: str = "RAS", shape=(60, 70, 20), voxel=(2.0, 2.0, 3.0), stripped=True):
    """An ellipsoid of value 100 with a darker core, on a grid with the given axis codes."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt((x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 0.9) ** 2)
    data = np.where(radius < 1, 100.0, 0.0 if stripped else 3.0).astype(np.float32)
    data[radius < 0.3] = 40
    affine = np.diag([*voxel, 1.0])
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    back = nib.orientations.inv_ornt_aff(turn, shape)
    return Image(nib.apply_orientation(data, turn), affine @ back)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "ASR", "SPL"])
@pytest.mark.parametrize("voxel_size_mm", [None, 2.0, 3.0])
def test_slices_go_back_to_the_grid_they_came_from(codes, voxel_size_mm):
    image = head_image(codes)
    plan = plan_slices(image, voxel_size_mm)
    back = plan.to_volume(plan.to_slices(image.data))
    assert back.shape == image.data.shape
    tolerance = 1e-4 if voxel_size_mm in (None, 2.0) else 8.0
    assert np.abs(back - image.data).mean() < tolerance


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSL"])
def test_labels_go_back_exactly_at_native_resolution(codes):
    image = head_image(codes)
    labels = (image.data > 50).astype(np.uint8) * 7
    plan = plan_slices(image, None)
    np.testing.assert_array_equal(plan.labels_to_volume(plan.labels_to_slices(labels)), labels)


def test_slices_run_right_anterior_whatever_the_orientation():
    turned = {codes: head_image(codes) for codes in ("RAS", "LPS", "ASR")}
    stacks = [plan_slices(image, 2.0).to_slices(image.data) for image in turned.values()]
    for stack in stacks[1:]:
        assert (stack - stacks[0]).abs().max() < 1e-3


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(40, 90), st.integers(40, 90), st.integers(12, 24)),
    st.floats(1.5, 3.5),
)
def test_slice_edges_are_multiples_and_hold_the_head(shape, voxel_size_mm):
    image = head_image(shape=shape)
    stack = plan_slices(image, voxel_size_mm).to_slices((image.data > 50).astype(np.float32))
    assert stack.shape[1] % MULTIPLE == 0
    assert stack.shape[2] % MULTIPLE == 0
    edges = [stack[:, 0], stack[:, -1], stack[:, :, 0], stack[:, :, -1]]
    assert all(edge.max() < 0.5 for edge in edges)


def test_normalised_tissue_is_one_and_does_not_depend_on_gain():
    image = head_image()
    louder = Image(image.data * 17, image.affine)
    np.testing.assert_allclose(normalise(image), normalise(louder), rtol=1e-5)
    assert np.median(normalise(image)[image.data == 100]) == pytest.approx(1.0)


def test_a_scalp_hardly_changes_the_scale():
    brain = head_image()
    shell = Image(brain.data.copy(), brain.affine)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shell.data.shape), indexing="ij")
    radius = np.sqrt((x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 0.9) ** 2)
    shell.data[(radius > 1.02) & (radius < 1.1)] = 300
    inside = brain.data == 100
    assert normalise(shell)[inside].mean() == pytest.approx(normalise(brain)[inside].mean(), 0.02)


def test_an_image_without_a_head_is_named(tmp_path):
    specks = np.zeros((20, 20, 20), np.float32)
    specks[::5, ::5, ::5] = 1.0
    with pytest.raises(ImageError, match=r"specks\.nii\.gz.*no head"):
        find_head(Image(specks, np.eye(4), tmp_path / "specks.nii.gz"))


def test_a_few_bright_voxels_are_no_head():
    specks = np.zeros((64, 64, 64), np.float32)
    specks[33, 33, 15] = 1000.0
    with pytest.raises(ImageError, match="no head found"):
        find_head(Image(specks, np.eye(4)))


def test_tissue_at_0_or_below_is_refused_with_a_remedy():
    image = head_image()
    with pytest.raises(ImageError, match="not scaled to a mean of 0"):
        normalise(replace(image, data=image.data - 150))


@pytest.mark.parametrize(
    ("have_mm", "weights"),
    [
        (5.0, [1]),
        (3.0, [1]),
        (2.0, [1 / 6, 2 / 3, 1 / 6]),
        (1.5, [1 / 4, 1 / 2, 1 / 4]),
        (1.0, [1 / 3, 1 / 3, 1 / 3]),
        (0.6, [1 / 5, 1 / 5, 1 / 5, 1 / 5, 1 / 5]),
    ],
)
def test_thin_slices_are_averaged_over_a_slab(have_mm, weights):
    stack = torch.zeros(11, 1, 1)
    stack[5] = 1.0  # what one bright slice gives to those around it
    around = slice(5 - len(weights) // 2, 6 + len(weights) // 2)
    averaged = as_thick(stack, have_mm, 3.0)
    np.testing.assert_allclose(averaged[around, 0, 0], weights, atol=1e-6)
    assert float(averaged.sum()) == pytest.approx(1.0)


@given(have_mm=st.floats(0.4, 6.0), wanted_mm=st.floats(0.0, 6.0), count=st.integers(1, 12))
@settings(deadline=None)
def test_averaging_keeps_what_does_not_change_from_slice_to_slice(have_mm, wanted_mm, count):
    stack = torch.rand(1, 3, 4).expand(count, 3, 4)
    torch.testing.assert_close(as_thick(stack, have_mm, wanted_mm), stack)


@given(have_mm=st.floats(0.4, 6.0), wanted_mm=st.floats(0.0, 6.0), around=st.integers(0, 6))
@settings(deadline=None)
def test_a_slab_lies_evenly_around_its_slice(have_mm, wanted_mm, around):
    ramp = torch.arange(2.0 * around + 1)[:, None, None]
    middle = as_thick(ramp, have_mm, wanted_mm)[around]
    torch.testing.assert_close(middle, ramp[around])
