"""Patches of volumes: drawn where they should, known by their place, put together again."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.images import Image
from wmh.learning.batches import draw_batch
from wmh.learning.inference import predict
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.models import load_model
from wmh.learning.networks.place import place
from wmh.learning.slices import Slices
from wmh.learning.training import train
from wmh.learning.volumes import draw_patches, logits_of_slices
from wmh.settings import NetworkSettings

PATCH = (32, 16, 16)
NETWORK = {"architecture": "multiresunet", "dimensions": 3, "width": 4, "patch_size": list(PATCH)}


def study_of_volumes(inputs="flair", task="lesions", steps=6, **network):
    settings = {
        "batch_size": 3,
        "learning_rate": 0.005,
        "validate_every": 3,
        "precision": "float32",
        "network": NETWORK | network,
    }
    return tiny_study(
        training=settings, models={"model": {"task": task, "inputs": inputs, "steps": steps}}
    )


def numbered(slices_each=(20, 6), edge=32) -> Slices:
    """Two subjects whose every pixel is 1000 slice + 32 right + front, with one lesion voxel each.

    The second has fewer slices than a patch.
    """
    count = sum(slices_each)
    number = torch.arange(count)
    right, front = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
    images = (1000 * number[:, None, None] + 32 * right + front).float()
    lesions = torch.zeros(count, edge, edge, dtype=torch.uint8)
    lesions[3, 30, 2] = lesions[22, 5, 30] = 1
    depth = torch.cat(
        [torch.arange(n).flip(0) * mm for n, mm in zip(slices_each, (3.0, 5.0), strict=True)]
    )
    subject = torch.repeat_interleave(torch.arange(2), torch.tensor(slices_each))
    stack = images[:, None].repeat(1, 2, 1, 1)
    return Slices(stack, lesions, torch.zeros_like(lesions), depth, subject, ("a", "b"))


def drawn(slices: Slices, share: float, count: int = 60):
    training = study_of_volumes().training.model_copy(update={"batch_size": count})
    return draw_patches(slices, share, training, torch.Generator().manual_seed(0))


def test_a_patch_is_the_piece_of_its_subject_that_its_place_says():
    slices = numbered()
    patches = drawn(slices, 0.0)
    images = patches.of(slices.images)
    assert images.shape == (60, 2, *PATCH)
    assert set(slices.subject[patches.low[:, 2]].tolist()) == {0, 1}
    for start, low, high, image in zip(
        patches.start, patches.low, patches.high, images, strict=True
    ):
        right, front, up = (torch.arange(e) + s for e, s in zip(PATCH, start, strict=True))
        expected = 1000 * up + 32 * right[:, None, None] + front[:, None]
        expected = expected * ((up >= low[2]) & (up < high[2]))
        assert torch.equal(image[0], expected.float())


def test_patches_lie_all_over_their_subject():
    patches = drawn(numbered(), 0.0)
    long = patches.high[:, 2] == 20
    assert set(patches.start[long, 2].tolist()) == set(range(5))  # 20 slices, 16 in a patch
    assert set(patches.start[~long, 2].tolist()) == {15}  # 6 in the middle of 16, from 20 - 5
    assert patches.start[:, 1].min() == 0
    assert patches.start[:, 1].max() == 16


def test_a_share_of_the_patches_holds_lesion():
    slices = numbered()
    patches = drawn(slices, 0.5)
    held = patches.of(slices.lesions[:, None]).flatten(1).any(dim=1)
    assert held[:30].all()
    assert not held[30:].all()
    assert len(patches.start[:30].unique(dim=0)) > 3  # anywhere in the patch


def test_the_place_of_a_patch_is_the_place_of_its_slices():
    slices = numbered()
    patches = drawn(slices, 0.0, count=8)
    places = place(torch.zeros(8, 1, *PATCH), patches.where(slices))
    of_slices = place(torch.zeros(26, 1, 32, 32), slices.depth_mm)
    inside = patches.of(torch.ones(26, 1, 32, 32))
    torch.testing.assert_close(places * inside, patches.of(of_slices))


class Centre(nn.Module):
    """Answers with what it sees: the image, and the place it believes the patch to lie at."""

    def forward(self, images, where):
        return {"lesions": torch.cat([images, place(images, where)], dim=1)}


@pytest.mark.parametrize("count", [6, 37])
def test_overlapping_patches_give_back_the_whole_volume(count):
    """Also of a volume that is smaller than a patch along one axis."""
    settings = NetworkSettings(**NETWORK)
    images = torch.rand(count, 2, 40, 24)
    depth = torch.arange(count).flip(0) * 3.0
    answer = logits_of_slices(Centre(), images, depth, settings)["lesions"]
    torch.testing.assert_close(answer[:, :2], images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answer[:, 2:], place(images, depth), rtol=1e-4, atol=1e-4)


def test_a_tiny_study_in_three_dimensions_trains_and_predicts(study):
    volumes = study_of_volumes("interchangeable", "multitask", steps=6)
    first = train(volumes, "model", tiny_slices(0), tiny_slices(1, 6))
    history = pd.read_csv(first.parent / "history.csv")
    assert np.isfinite(history["validation_loss"]).all()
    weights = torch.load(first, weights_only=True)["weights"]
    again = torch.load(
        train(volumes, "model", tiny_slices(0), tiny_slices(1, 6)), weights_only=True
    )["weights"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    data = np.zeros((50, 44, 9), np.float32)
    data[8:40, 8:36, 1:8] = 100
    image = Image(data, np.diag([1.2, 0.9, 3.0, 1.0]))
    answer = predict(load_model(first), {"FLAIR": image, "T1": image})
    assert answer.probability.shape == answer.regions.shape == data.shape
    assert 0 < answer.probability.max() <= 1
    assert not answer.probability[:, :, 0].any()  # a slice without head


def test_a_network_in_three_dimensions_learns(study):
    volumes = study_of_volumes(steps=40, architecture="unet")
    history = pd.read_csv(
        train(volumes, "model", tiny_slices(0), tiny_slices(0)).parent / "history.csv"
    )
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]


def test_a_batch_of_patches_is_augmented_like_slices(study):
    volumes = study_of_volumes()
    batch = draw_batch(
        tiny_slices(0),
        CONFIGURATIONS["flair"],
        "multitask",
        volumes.training,
        torch.Generator().manual_seed(0),
    )
    (part,) = batch.parts
    assert part.images.shape == (3, 1, *PATCH)
    assert {name: label.shape for name, label in part.labels.items()} == dict.fromkeys(
        ("lesions", "regions"), (3, *PATCH)
    )
    assert part.where.shape == (3, 3, 2)
