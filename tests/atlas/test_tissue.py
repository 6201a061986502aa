"""White matter of heads and stripped brains, FAST-AID beside the T1, and its container."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tests.atlas.heads import displacement, moved
from wmh.atlas import fast_aid, tissue
from wmh.images import Image, ImageError, save_image

MOVED = displacement((10, -6, 8), (15, -20, 10), (0.9, 0.95, 1.0))


@pytest.fixture(scope="module")
def brain():
    """A stripped brain with noise and bias, and its true white matter and grid."""
    t1, white, _ = moved(MOVED)
    generator = np.random.default_rng(3)
    bias = 1 + 0.3 * np.linspace(-1, 1, t1.data.shape[1])[:, None]
    noisy = t1.data * bias * 800 + generator.normal(0, 12, t1.data.shape) * (t1.data > 0)
    return replace(t1, data=noisy.astype(np.float32)), white.data > 0.5


@pytest.fixture(scope="module")
def head(brain):
    """The brain inside skull and scalp, on a neck of muscle, with two eyes, in noisy air."""
    t1, white = brain
    inner = ndimage.binary_closing(np.pad(t1.data > 0, 6), iterations=4)[6:-6, 6:-6, 6:-6]
    away = ndimage.distance_transform_edt(~inner, sampling=t1.voxel_size)
    data = t1.data.copy()
    data[(away > 0) & (away <= 6)] = 60
    data[(away > 6) & (away <= 13)] = 1300
    x, y, z = np.indices(data.shape)
    neck = (np.hypot(x - 36, y - 42) < 13) & (z < 9) & (away > 2)
    data[neck] = 620
    data += np.abs(np.random.default_rng(4).normal(0, 8, data.shape))
    return replace(t1, data=data.astype(np.float32)), white


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (first.sum() + second.sum())


def test_white_matter_of_a_stripped_brain(brain):
    t1, truth = brain
    found = tissue.white_matter_probability(t1, seed=1).data
    assert dice(found > 0.5, truth) > 0.85
    assert not found[t1.data <= 0].any()
    assert found.max() <= 1


def test_white_matter_of_a_whole_head_is_that_of_its_brain(head):
    t1, truth = head
    assert dice(tissue.white_matter(t1, seed=1).data > 0, truth) > 0.82


def test_the_same_seed_gives_the_same_bits(brain):
    first, second = (tissue.white_matter_probability(brain[0], seed=1).data for _ in range(2))
    assert np.array_equal(first, second)


def test_lesions_as_dark_as_grey_matter_are_white_matter_all_the_same(brain):
    t1, truth = brain
    core = ndimage.binary_erosion(truth, iterations=2)
    lesion = ndimage.binary_dilation(core & (np.indices(truth.shape)[2] % 12 < 3)) & truth
    dark = replace(t1, data=np.where(lesion, 0.62 * t1.data, t1.data))
    bright = np.where(lesion, 900.0, np.where(t1.data > 0, 500.0, 0))
    flair = replace(t1, data=bright + np.random.default_rng(0).normal(0, 20, truth.shape))
    mask = replace(t1, data=lesion.astype(np.uint8))
    assert tissue.white_matter(dark, lesions=mask, seed=1).data[lesion].all()
    assert tissue.white_matter(dark, flair=flair, seed=1).data[lesion].mean() > 0.85


def test_a_mask_that_does_not_follow_the_picture_has_little_contrast_at_its_border(brain):
    t1, truth = brain
    true = tissue.border_contrast(t1, replace(t1, data=truth))
    shifted = tissue.border_contrast(t1, replace(t1, data=np.roll(truth, 2, axis=1)))
    assert true > 0.8
    assert shifted < true / 2
    assert tissue.border_contrast(t1, replace(t1, data=np.zeros_like(truth))) == 0


def test_small_parts_are_told_from_large_ones():
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[1, 1, 1] = mask[3:6, 3:6, 3:6] = mask[8:11, 8:11, 8:11] = True
    assert np.argwhere(tissue._small_parts(mask, voxel_ml=0.1)).tolist() == [[1, 1, 1]]


def test_an_image_without_a_head_is_refused():
    flat = Image(np.full((20, 20, 20), -1.0, dtype=np.float32), np.diag([4.0, 4, 4, 1]))
    with pytest.raises(ImageError, match="shows no head"):
        tissue.white_matter_probability(flat)


def test_a_fast_aid_segmentation_beside_the_t1_is_used(tmp_path):
    like = Image(np.zeros((6, 6, 6), dtype=np.float32), np.diag([2.0, 2, 2, 1]))
    labels = np.zeros((6, 6, 6), dtype=np.uint8)
    labels[1:3, 1:5, 1:5], labels[3:5, 1:5, 1:5], labels[5] = 44, 45, 46
    save_image(tmp_path / "T1_seg.nii.gz", labels, like)
    t1 = replace(like, path=tmp_path / "T1.nii.gz")
    mask = tissue.white_matter(t1)
    assert np.array_equal(mask.data, np.isin(labels, (44, 45)))
    assert fast_aid.segmentation_beside(tmp_path / "other.nii.gz") is None


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A container that need not be one, and Singularity's program in place."""
    monkeypatch.setattr(fast_aid.shutil, "which", {"singularity": "/bin/singularity"}.get)
    file = tmp_path / "fast_aid_brain.sif"
    file.touch()
    return file


def test_the_containers_command_is_the_published_one(container, monkeypatch):
    commands = []
    monkeypatch.setattr(fast_aid.subprocess, "run", lambda words, check: commands.append(words))
    fast_aid.run_fast_aid(Path("in"), Path("out"), container)
    fast_aid.run_fast_aid(Path("in"), Path("out"), container, 4, "cpu")
    expected = "/bin/singularity run --nv {} in/ out/ 16 gpu weighted-majority uint8 1 2"
    assert " ".join(commands[0]) == expected.format(container)
    assert "--nv" not in commands[1]


def test_what_is_missing_for_the_container_is_explained(container, monkeypatch):
    with pytest.raises(fast_aid.FastAidError, match="no such container"):
        fast_aid.run_fast_aid(Path("in"), Path("out"), container.with_name("f.sif"))
    monkeypatch.setattr(fast_aid.shutil, "which", lambda name: None)
    with pytest.raises(fast_aid.FastAidError, match="neither apptainer nor singularity"):
        fast_aid.run_fast_aid(Path("in"), Path("out"), container)


def test_a_container_that_fails_says_so(container, monkeypatch):
    monkeypatch.setattr(fast_aid.shutil, "which", lambda name: "false")
    with pytest.raises(fast_aid.FastAidError, match="failed with exit code 1"):
        fast_aid.run_fast_aid(Path("in"), Path("out"), container)
