"""What looks wrong with a person's images, on the MNI152 template as a T1 and as a FLAIR."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wmh.atlas.grids import isotropic
from wmh.atlas.regions import mni_grey_matter, mni_t1, mni_white_matter
from wmh.cohorts.check import check_path
from wmh.cohorts.plausible import notices
from wmh.images import Image, ImageError, load_image, resample_to, save_image


@pytest.fixture(scope="module")
def head() -> dict[str, Image]:
    """The template's brain on 4 mm: tissues as bright as on a FLAIR, and the T1 itself."""
    maps = (mni_t1, mni_white_matter, mni_grey_matter)
    t1, white, grey = (isotropic(part(2), 4.0) for part in maps)
    noise = np.random.default_rng(0).normal(0, 2, t1.data.shape)
    flair = np.where(t1.data > 0, 20 + 70 * white.data + 80 * grey.data + noise, 0)
    return {
        "FLAIR": Image(flair.astype(np.float32), t1.affine, Path("flair.nii.gz")),
        "T1": replace(t1, path=Path("t1.nii.gz")),
    }


def flipped(images: dict[str, Image], axis: int) -> dict[str, Image]:
    return {name: replace(i, data=np.flip(i.data, axis)) for name, i in images.items()}


def test_nothing_is_said_of_a_head_as_it_should_be(head):
    assert notices(head) == []
    assert notices({"FLAIR": head["FLAIR"]}) == notices({"T1": head["T1"]}) == []


def test_exchanged_images_are_noticed(head):
    (said,) = notices({"FLAIR": head["T1"], "T1": head["FLAIR"]})
    assert "the T1 looks like a FLAIR" in said and "exchanged" in said
    assert "the FLAIR looks like a T1" in " ".join(notices({"FLAIR": head["T1"]}))
    assert "the T1 looks like a FLAIR" in " ".join(notices({"T1": head["FLAIR"]}))


def test_the_check_of_a_cohort_says_so_too(head, tmp_path):
    for name, image in (("flair", head["T1"]), ("t1", head["FLAIR"])):
        save_image(tmp_path / f"{name}.nii.gz", image.data, image)
    lesions = np.zeros(head["T1"].data.shape, dtype=np.uint8)
    lesions[20:22, 25:27, 20:22] = 1
    save_image(tmp_path / "lesions.nii.gz", lesions, head["T1"])
    table = "id,flair,t1,lesions\na,flair.nii.gz,t1.nii.gz,lesions.nii.gz\n"
    (tmp_path / "t.csv").write_text(table)
    (row,) = check_path(tmp_path / "t.csv").rows
    assert row.usable and "they seem to be exchanged" in row.warnings[0]


def test_one_picture_as_both_is_noticed(head):
    said = notices({"FLAIR": head["FLAIR"], "T1": replace(head["FLAIR"], path=Path("copy.nii.gz"))})
    assert said[0].startswith("copy.nii.gz: the T1 is the same image as the FLAIR")


@pytest.mark.parametrize(("axis", "words"), [(2, "upside down"), (1, "back to front")])
def test_a_head_turned_over_is_noticed(head, axis, words):
    (said,) = notices(flipped(head, axis))
    assert (
        said.startswith("flair.nii.gz")
        and f"by its header the head in the FLAIR is {words}" in said
    )


def test_noise_and_a_bottle_are_refused():
    x, y, _ = np.indices((50, 50, 40))
    bottle = np.where((x - 25) ** 2 + (y - 25) ** 2 < 400, 1000.0, 0.0)
    for data in (bottle, np.random.default_rng(0).uniform(50, 150, (50, 50, 40))):
        image = Image(data.astype(np.float32), np.diag([4.0, 4, 4, 1]), Path("x.nii.gz"))
        with pytest.raises(ImageError, match=r"x\.nii\.gz: no brain found in the FLAIR"):
            notices({"FLAIR": image})


def test_contrast_agent_is_noticed(head):
    bright = np.random.default_rng(0).random(head["T1"].data.shape) < 0.06
    t1 = head["T1"]
    data = np.where(bright & (t1.data > 0), 1.8 * t1.data.max(), t1.data).astype(np.float32)
    (said,) = notices(head | {"T1": replace(t1, data=data)})
    assert "with contrast agent" in said


def test_a_t1_off_its_flair_is_measured_and_one_elsewhere_refused(head):
    off, away = head["T1"].affine.copy(), head["T1"].affine.copy()
    off[:3, 3] += (0, 24, -12)
    away[:3, 3] += 300
    (said,) = notices(head | {"T1": replace(head["T1"], affine=off)})
    assert "the T1 lies 27 mm off the FLAIR" in said
    with pytest.raises(ImageError, match="holds only 0% of the head"):
        notices(head | {"T1": replace(head["T1"], affine=away)})


def test_a_tilted_head_is_noticed_where_slices_are_looked_at(head):
    middle = nib.affines.apply_affine(head["T1"].affine, np.array(head["T1"].data.shape) / 2)
    turn = Rotation.from_euler("x", 35, degrees=True).as_matrix()
    about = nib.affines.from_matvec(turn, middle - turn @ middle)
    tilted = {name: replace(i, affine=about @ i.affine) for name, i in head.items()}
    assert notices(tilted) == []  # the slices are turned in the world, not the head in the slices
    straight = {name: replace(i, data=resliced(i, about)) for name, i in head.items()}
    (said,) = notices(straight)
    assert "tilted by 35 degrees in its slices" in said
    assert notices(straight, in_slices=False) == []


def test_half_a_brain_is_noticed(head):
    left = head["FLAIR"].data.copy()
    left[left.shape[0] // 2 :] = 0
    (said,) = notices(head | {"FLAIR": replace(head["FLAIR"], data=left)})
    assert said.startswith("flair.nii.gz: the FLAIR shows only 5")
    assert said.endswith("% of the brain's white matter")


def test_a_slice_thickness_that_was_lost_is_noticed(head):
    thin = head["FLAIR"].affine @ np.diag([1, 1, 0.25, 1])
    (said,) = notices({"FLAIR": replace(head["FLAIR"], affine=thin)})
    assert re.search(
        r"flair\.nii\.gz: the FLAIR covers only \d+ x \d+ x \d\d mm; if it shows", said
    )


@pytest.mark.parametrize("factor", [0.55, 1.5])
def test_a_wrong_voxel_size_is_noticed(head, factor):
    wrong = head["T1"].affine @ np.diag([1, 1, factor, 1])
    said = notices({name: replace(image, affine=wrong) for name, image in head.items()})
    assert "check the voxel size in the header" in said[0]


def test_a_mask_in_the_place_of_a_scan_is_noticed(head):
    mask = replace(head["FLAIR"], data=(head["FLAIR"].data > 0).astype(np.float32))
    assert "only a few values; it seems to be a mask" in notices({"FLAIR": mask})[0]


def resliced(image: Image, about: np.ndarray) -> np.ndarray:
    """The head turned about a point, on the same grid."""
    return resample_to(replace(image, affine=about @ image.affine), image).data


def test_real_scans_pass(shared):
    for name in ("head12", "sv911"):
        folder = shared / "real" / name
        images = {m: load_image(folder / f"{m}.nii.gz") for m in ("FLAIR", "T1")}
        assert notices(images) == []
