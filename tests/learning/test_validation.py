"""Validation scores, also where there is nothing to find."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.learning.conftest import tiny_slices, tiny_study
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.slices import Slices
from wmh.learning.validation import fullest_slice, mean_prediction, validation_scores

ONE_VIEW = CONFIGURATIONS["flair"]


class Everywhere(nn.Module):
    """A network that finds one class of each structure in the left part of every slice."""

    def __init__(self, width: int, **labels: int):
        super().__init__()
        self.width, self.labels = width, labels

    def forward(self, images, depth_mm):
        answers = {}
        for structure, label in self.labels.items():
            scores = torch.zeros(len(images), {"lesions": 2, "regions": 37}[structure], 32, 32)
            scores[:, 0] = 1
            scores[:, label, : self.width] = 2
            answers[structure] = scores
        return answers


def scores_of(network: nn.Module, slices: Slices) -> dict[str, float]:
    return validation_scores(network, slices, ONE_VIEW, tiny_study().training)


def labelled(lesions: torch.Tensor | None = None, regions: torch.Tensor | None = None) -> Slices:
    """Four slices, two of each of two people; labels where they are given."""
    none = torch.zeros(4, 32, 32, dtype=torch.uint8)
    return replace(
        tiny_slices(0, 4),
        lesions=none if lesions is None else lesions,
        regions=none if regions is None else regions,
    )


def test_views_are_averaged_by_their_probabilities():
    logits = list(torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0)))
    wanted = torch.stack([one.softmax(dim=1) for one in logits]).mean(dim=0)
    torch.testing.assert_close(mean_prediction(logits).softmax(dim=1), wanted)
    assert mean_prediction(logits[:1]) is logits[0]


def test_the_slice_with_most_lesion_is_shown_with_what_the_network_finds_there():
    lesions = torch.zeros(4, 32, 32, dtype=torch.uint8)
    lesions[1, :4], lesions[2, :20], lesions[3] = 1, 1, 2  # other pathology is no lesion
    slices = labelled(lesions)
    network = Everywhere(8, lesions=1)
    images, truth, found = fullest_slice(
        network, slices, "lesions", ONE_VIEW, tiny_study().training
    )
    assert torch.equal(images, slices.images[2].float())
    assert torch.equal(truth, lesions[2])
    assert (found[:8] == 1).all() and (found[8:] == 0).all()
    assert network.training


def test_lesion_dice_is_the_mean_over_people_without_label_2():
    """Of 16 rows 8 are found: 2 * 8 / 24; of the other's 16 the first 8 are label 2: 0 / 8."""
    lesions = torch.zeros(4, 32, 32, dtype=torch.uint8)
    lesions[:, :16] = 1
    lesions[2:, :8] = 2
    scores = scores_of(Everywhere(8, lesions=1), labelled(lesions))
    assert scores["validation_dice"] == pytest.approx((2 * 8 / 24 + 0) / 2)


def test_a_person_without_lesions_counts_only_when_some_are_found():
    lesions = torch.zeros(4, 32, 32, dtype=torch.uint8)
    lesions[:2, :8] = 1
    assert scores_of(Everywhere(8, lesions=1), labelled(lesions))["validation_dice"] == 0.5
    lesions[2:, 0, 0] = 2  # what is left out is not found either
    assert scores_of(Everywhere(0, lesions=1), labelled(lesions))["validation_dice"] == 0.0


def test_regions_that_nobody_has_are_left_out_and_so_are_the_rest_labels():
    regions = torch.zeros(4, 32, 32, dtype=torch.uint8)
    regions[:, :8], regions[:, 8:16], regions[:, 16:] = 3, 20, 35
    scores = scores_of(Everywhere(8, regions=3), labelled(regions=regions))
    assert scores["validation_dice"] == 0.5  # of regions 3 and 20


@pytest.mark.parametrize("missing", ["lesions", "regions"])
def test_a_structure_without_any_label_gives_no_nan(missing):
    there = torch.zeros(4, 32, 32, dtype=torch.uint8)
    there[:, :8] = 1
    other = {"lesions": "regions", "regions": "lesions"}[missing]
    slices = labelled(**{other: there})
    silent = scores_of(Everywhere(8, **{other: 1, missing: 0}), slices)
    assert silent[f"validation_{missing}_dice"] == silent["validation_dice"] == 1.0
    wrong = scores_of(Everywhere(8, **{other: 1, missing: 1}), slices)
    assert (wrong[f"validation_{missing}_dice"], wrong["validation_dice"]) == (0.0, 0.5)
    assert all(torch.tensor(list(scores.values())).isfinite().all() for scores in (silent, wrong))
