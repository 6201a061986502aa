"""Between nibabel's and SimpleITK's world, and coarse copies."""

import nibabel as nib
import numpy as np
import pytest

from tests.atlas.heads import displacement
from wmh.atlas import grids
from wmh.images import Image


@pytest.fixture
def oblique():
    data = np.random.default_rng(0).random((7, 6, 5)).astype(np.float32)
    affine = displacement((20, -10, 30), (12, -40, 7)) @ np.diag([-1.5, 2, 3, 1])
    return Image(data, affine)


def test_sitk_and_back_is_the_same_image(oblique):
    back = grids.from_sitk(grids.to_sitk(oblique))
    assert np.array_equal(back.data, oblique.data)
    assert np.allclose(back.affine, oblique.affine)


def test_sitk_places_a_voxel_in_lps(oblique):
    point = grids.to_sitk(oblique).TransformIndexToPhysicalPoint((3, 1, 4))
    expected = nib.affines.apply_affine(oblique.affine, (3, 1, 4)) * (-1, -1, 1)
    assert np.allclose(point, expected)


def test_crop_keeps_every_voxel_at_its_place(oblique):
    data = np.zeros_like(oblique.data)
    data[2, 3, 4] = 1
    cropped = grids.crop(Image(data, oblique.affine), margin_mm=1.9)
    assert cropped.data.shape == (5, 3, 2)  # 1.9 mm are 2, 1 and 1 voxels; the last slice ends it
    where = nib.affines.apply_affine(cropped.affine, np.argwhere(cropped.data == 1)[0])
    assert np.allclose(where, nib.affines.apply_affine(oblique.affine, (2, 3, 4)))


def test_isotropic_keeps_the_centre_of_mass_and_the_volume():
    blob = np.zeros((24, 24, 12), dtype=np.float32)
    blob[8:17, 10:15, 4:9] = 1
    image = Image(blob, displacement((10, 20, 5)) @ np.diag([1, -1, 3, 1]))
    coarse = grids.isotropic(image, 2.0)
    assert np.allclose(coarse.voxel_size, 2)
    assert coarse.data.sum() * coarse.voxel_ml == pytest.approx(blob.sum() * image.voxel_ml, 0.05)
    assert np.allclose(centre_of_mass(image), centre_of_mass(coarse), atol=0.3)


def test_sampling_takes_the_nearest_voxel_and_nothing_outside(oblique):
    points = nib.affines.apply_affine(oblique.affine, [(3.4, 0.6, 2), (-0.6, 0, 0), (6.4, 5, 4)])
    assert np.array_equal(
        grids.sample(oblique, points), [oblique.data[3, 1, 2], 0, oblique.data[6, 5, 4]]
    )


def test_interpolating_half_way_gives_the_mean(oblique):
    point = nib.affines.apply_affine(oblique.affine, [(2.5, 3, 1)])
    expected = oblique.data[2:4, 3, 1].mean()
    assert grids.interpolate(oblique, point)[0] == pytest.approx(expected, rel=1e-5)


def centre_of_mass(image: Image) -> np.ndarray:
    return np.average(grids.voxel_centres(image), axis=0, weights=image.data.ravel())
