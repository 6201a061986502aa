import numpy as np
import pytest

from wmh.atlas.brain import rough_brain
from wmh.images import Image

SPACING = 2.0
SIDES = ((-38.0, 0.0, 0.0), (38.0, 0.0, 0.0))
"""Middles of two hemispheres, in mm."""


def head(bridge_mm: float, stalk_mm: float) -> Image:
    """Two round hemispheres of radius 40 mm, joined by a bridge, and a thick shell, by a stalk.

    Beside the bridge a slit of 8 mm parts the hemispheres, and a dark gap the brain from the shell.
    """
    axis = np.arange(-130, 130, SPACING)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    apart = [np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) for a, b, c in SIDES]
    nearest = np.minimum(*apart)
    brain = (nearest < 40) & ((np.abs(x) > 4) | (y**2 + z**2 < bridge_mm**2))
    brain |= (np.abs(x) <= 6) & (y**2 + z**2 < bridge_mm**2)
    radius = np.sqrt(x**2 + y**2 + z**2)
    shell = (radius > 86) & (radius < 120)
    stalk = (y**2 + z**2 < stalk_mm**2) & (x > 70) & (radius < 90)  # holds both together
    data = np.where(brain | shell | stalk, 100.0, 0.0).astype(np.float32)
    affine = np.diag([SPACING] * 3 + [1.0])
    affine[:3, 3] = axis[0]
    return Image(data, affine)


def shares(image: Image) -> list[float]:
    """How much of each hemisphere is left in the rough brain."""
    rough = rough_brain(image)
    points = np.argwhere(rough.data > 0) @ rough.affine[:3, :3].T + rough.affine[:3, 3]
    ball = 4 / 3 * np.pi * 38**3
    inside = [(np.linalg.norm(points - middle, axis=1) < 38).sum() for middle in SIDES]
    return [count * rough.voxel_ml * 1000 / ball for count in inside]


@pytest.mark.parametrize("bridge_mm", [7.0, 20.0])
def test_both_hemispheres_stay_although_the_surroundings_cannot_be_cut_off(bridge_mm):
    """The stalk is as thick as the bridge: to cut it would be to part the hemispheres."""
    assert min(shares(head(bridge_mm, stalk_mm=10.0))) > 0.85


def test_a_thin_stalk_to_the_surroundings_is_cut():
    image = head(bridge_mm=20.0, stalk_mm=5.0)
    assert np.count_nonzero(rough_brain(image).data) < 0.4 * np.count_nonzero(image.data)
    assert min(shares(image)) > 0.85
