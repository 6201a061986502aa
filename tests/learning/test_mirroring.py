"""Predictions averaged with those from the mirrored images, left and right exchanged again."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.learning.test_inference import oblique_head
from wmh.learning.inference import mirrored_back, predict
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.models import Model
from wmh.learning.networks.place import place
from wmh.settings import Evaluation, NetworkSettings

MIRRORED = Evaluation(mirroring=True)
LEFT, RIGHT = 3, 20
"""Two labels of the same region, on either side."""


class Sided(nn.Module):
    """Looks at the place alone: the right label on the right, and as much lesion as it is right."""

    def __init__(self, lesions_on_the_right: float):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(lesions_on_the_right))

    def forward(self, images, where):
        right = place(images, where)[:, :1]
        regions = torch.zeros(len(images), 37, *images.shape[2:])
        regions[:, [RIGHT]], regions[:, [LEFT]] = 20 * right, -20 * right
        lesions = torch.cat([images[:, :1], images[:, :1] * (1 + self.slope * right)], dim=1)
        return {"lesions": lesions, "regions": regions}


def model_of(network: nn.Module, dimensions: int) -> Model:
    settings = NetworkSettings(dimensions=dimensions, patch_size=(32, 48, 16))
    configuration = CONFIGURATIONS["flair"]
    return Model("m", "multitask", configuration, (network,), settings, None, 0.0, "tiny", 1)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_without_sides_answers_the_same(dimensions):
    model, images = model_of(Sided(0.0), dimensions), {"FLAIR": oblique_head(False)}
    alone, mirrored = predict(model, images), predict(model, images, MIRRORED)
    np.testing.assert_allclose(mirrored.probability, alone.probability, atol=1e-5)
    np.testing.assert_array_equal(mirrored.regions, alone.regions)
    assert set(np.unique(alone.regions)) == {0, LEFT, RIGHT}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_what_depends_on_the_side_is_averaged(dimensions, flip):
    model, images = model_of(Sided(4.0), dimensions), {"FLAIR": oblique_head(flip)}
    bright = (images["FLAIR"].data == 100) & (np.arange(9) != 4)  # slices the same on both sides
    alone = predict(model, images).probability
    mirrored = predict(model, images, MIRRORED).probability
    assert alone[bright].min() < 0.2 < 0.8 < alone[bright].max()
    np.testing.assert_allclose(mirrored[bright], 0.5, atol=1e-4)


def test_each_class_of_a_region_takes_its_partners_place():
    probability = torch.rand(2, 37, 4, 3).softmax(dim=1)
    back = mirrored_back(probability, "regions")
    assert torch.equal(back[:, RIGHT, 0], probability[:, LEFT, 3])
    assert torch.equal(back[:, 0, 1], probability[:, 0, 2])
    assert torch.equal(back[:, 35], probability[:, 36].flip(1))
    assert torch.equal(mirrored_back(back, "regions"), probability)
    lesions = probability[:, :2]
    assert torch.equal(mirrored_back(lesions, "lesions"), lesions.flip(2))
