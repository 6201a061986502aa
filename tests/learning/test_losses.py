import math

import pytest
import torch

from wmh.learning.losses import LEFT_OUT, dice_loss, loss_of
from wmh.study import LossSettings


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    """Two-class logits (B, 2, H, W) whose softmax gives the foreground ``probability``."""
    return torch.stack([(1 - probability).log(), probability.log()], dim=1)


def test_dice_loss_by_hand():
    """p = (0.8, 0.4), truth (1, 0): Dice = (2 * 0.8 + 1) / (1.2 + 1 + 1) = 2.6 / 3.2."""
    probability = torch.tensor([[[0.8, 0.4]]])
    target = torch.tensor([[[1, 0]]])
    assert dice_loss(logits_of(probability).softmax(1), target).item() == pytest.approx(
        1 - 2.6 / 3.2, 1e-5
    )


def test_cross_entropy_by_hand():
    probability = torch.tensor([[[0.8, 0.4]]])
    labels = {"lesions": torch.tensor([[[1, 0]]], dtype=torch.uint8)}
    settings = LossSettings(cross_entropy=1, dice=0)
    expected = -(math.log(0.8) + math.log(0.6)) / 2
    loss = loss_of({"lesions": logits_of(probability)}, labels, settings)
    assert loss.item() == pytest.approx(expected, 1e-5)


def test_lesion_class_weight_by_hand():
    probability = torch.tensor([[[0.8, 0.4]]])
    labels = {"lesions": torch.tensor([[[1, 0]]], dtype=torch.uint8)}
    settings = LossSettings(cross_entropy=1, dice=0, lesion_class_weight=3)
    expected = -(3 * math.log(0.8) + math.log(0.6)) / 4
    loss = loss_of({"lesions": logits_of(probability)}, labels, settings)
    assert loss.item() == pytest.approx(expected, 1e-5)


def test_other_pathology_takes_no_part():
    scores = torch.randn(2, 2, 8, 8, requires_grad=True)
    target = torch.randint(0, 2, (2, 8, 8), dtype=torch.uint8)
    target[:, :4] = 2
    loss_of({"lesions": scores}, {"lesions": target}, LossSettings()).backward()
    assert scores.grad[:, :, :4].abs().max() == 0
    assert scores.grad[:, :, 4:].abs().min() > 0


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_does():
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    target[:, :2] = 1
    right = torch.stack([-20.0 * target + 10, 20.0 * target - 10], dim=1)
    assert dice_loss(right.softmax(1), target).item() == pytest.approx(0, abs=1e-4)
    assert dice_loss((-right).softmax(1), target).item() > 0.9


def test_classes_that_the_batch_lacks_do_not_count():
    target = torch.tensor([[[1, 1, 0, 0]]])
    scores = torch.full((1, 5, 1, 4), -20.0)
    scores.scatter_(1, target[:, None], 20.0)
    assert dice_loss(scores.softmax(1), target).item() == pytest.approx(0, abs=1e-4)


def test_a_batch_with_nothing_to_find_gives_a_finite_loss():
    target = torch.full((1, 4, 4), LEFT_OUT)
    assert torch.isfinite(dice_loss(torch.randn(1, 2, 4, 4).softmax(1), target))


def test_gradients():
    scores = torch.randn(1, 3, 2, 3, dtype=torch.double, requires_grad=True)
    target = torch.tensor([[[0, 1, 2], [2, 1, LEFT_OUT]]])
    assert torch.autograd.gradcheck(lambda s: dice_loss(s.softmax(1), target), scores)


def test_background_weight_of_the_regions_by_hand():
    probability = torch.full((1, 37, 1, 2), 1 / 37)
    labels = {"regions": torch.tensor([[[0, 5]]], dtype=torch.uint8)}
    settings = LossSettings(cross_entropy=1, dice=0, background_weight=0.25)
    probability[0, :, 0, 0], probability[0, 0, 0, 0] = 0.5 / 36, 0.5
    expected = (0.25 * math.log(2) + math.log(37)) / 1.25
    loss = loss_of({"regions": probability.log()}, labels, settings)
    assert loss.item() == pytest.approx(expected, 1e-4)
