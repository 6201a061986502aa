import math

import pytest
import torch

from wmh.learning.losses import LEFT_OUT, loss_of, structure_loss
from wmh.settings import LossSettings

DICE = LossSettings(cross_entropy=0, dice=1)
RECALL = LossSettings(cross_entropy=0, dice=0, skeleton_recall=1)


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    """Two-class logits (B, 2, H, W) whose softmax gives the foreground ``probability``."""
    return torch.stack([(1 - probability).log(), probability.log()], dim=1)


def dice_loss(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return structure_loss("regions", scores, {"regions": target}, DICE)


def skeleton_recall_loss(
    scores: torch.Tensor, target: torch.Tensor, skeleton: torch.Tensor
) -> torch.Tensor:
    return structure_loss(
        "regions", scores, {"regions": target, "regions_skeleton": skeleton}, RECALL
    )


def test_dice_loss_by_hand():
    """p = (0.8, 0.4), truth (1, 0): Dice = (2 * 0.8 + 1) / (1.2 + 1 + 1) = 2.6 / 3.2."""
    probability = torch.tensor([[[0.8, 0.4]]])
    target = torch.tensor([[[1, 0]]])
    assert dice_loss(logits_of(probability), target).item() == pytest.approx(1 - 2.6 / 3.2, 1e-5)


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
    assert dice_loss(right, target).item() == pytest.approx(0, abs=1e-4)
    assert dice_loss(-right, target).item() > 0.9


def test_classes_that_the_batch_lacks_do_not_count():
    target = torch.tensor([[[1, 1, 0, 0]]])
    scores = torch.full((1, 5, 1, 4), -20.0)
    scores.scatter_(1, target[:, None], 20.0)
    assert dice_loss(scores, target).item() == pytest.approx(0, abs=1e-4)


def test_a_batch_with_nothing_to_find_gives_a_finite_loss():
    target = torch.full((1, 4, 4), LEFT_OUT)
    assert dice_loss(torch.randn(1, 2, 4, 4), target).item() == 0


@pytest.mark.parametrize("task_weights", ["fixed", "uncertainty"])
@pytest.mark.parametrize("missing", [("lesions",), ("regions",), ("lesions", "regions")])
def test_what_a_batch_lacks_leaves_loss_and_gradient_finite(missing, task_weights):
    torch.manual_seed(0)
    scores = {
        "lesions": torch.randn(2, 2, 4, 4, requires_grad=True),
        "regions": torch.randn(2, 37, 4, 4, requires_grad=True),
    }
    labels = {"lesions": torch.randint(0, 2, (2, 4, 4)), "regions": torch.full((2, 4, 4), 5)}
    labels |= {name: torch.zeros(2, 4, 4, dtype=torch.long) for name in missing}
    labels |= {f"{name}_skeleton": stack for name, stack in labels.items()}
    settings = LossSettings(skeleton_recall=1, task_weights=task_weights)
    learned = {name: torch.zeros((), requires_grad=True) for name in scores}
    loss = loss_of(scores, labels, settings, learned if task_weights == "uncertainty" else None)
    loss.backward()
    assert loss.isfinite()
    assert all(stack.grad.isfinite().all() and stack.grad.any() for stack in scores.values())


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "terms",
    [
        {"cross_entropy": 1, "dice": 0, "skeleton_recall": 0},
        {"cross_entropy": 0, "dice": 1, "skeleton_recall": 0},
        {"cross_entropy": 0, "dice": 0, "skeleton_recall": 1},
        {"task_weights": "uncertainty", "skeleton_recall": 0.5, "lesion_class_weight": 2},
    ],
)
def test_gradients_of_every_term(terms, dimensions):
    torch.manual_seed(0)
    size = (2, 3, 2)[:dimensions]
    scores = [
        torch.randn(2, classes, *size, dtype=torch.double, requires_grad=True)
        for classes in (2, 37)
    ]
    log_variances = torch.randn(2, dtype=torch.double, requires_grad=True)
    labels = {
        "lesions": torch.randint(0, 3, (2, *size)),
        "regions": torch.randint(0, 37, (2, *size)),
    }
    labels["regions"].view(-1)[:2] = LEFT_OUT
    labels["lesions_skeleton"] = labels["lesions"] % 2
    labels["regions_skeleton"] = labels["regions"] * torch.randint(0, 2, (2, *size))
    settings = LossSettings(**terms)

    def loss(lesions, regions, variances):
        learned = dict(zip(("lesions", "regions"), variances, strict=True))
        if settings.task_weights == "fixed":
            learned = None
        return loss_of({"lesions": lesions, "regions": regions}, labels, settings, learned)

    assert torch.autograd.gradcheck(loss, (*scores, log_variances))


def test_skeleton_recall_by_hand():
    """p = (0.8, 0.4, 0.9), skeleton on the first two pixels: (0.8 + 0.4 + 1) / (2 + 1)."""
    scores = logits_of(torch.tensor([[[0.8, 0.4, 0.9]]]))
    loss = skeleton_recall_loss(scores, torch.tensor([[[1, 1, 1]]]), torch.tensor([[[1, 1, 0]]]))
    assert loss.item() == pytest.approx(1 - 2.2 / 3, 1e-5)


def test_skeleton_recall_is_the_mean_over_the_classes_that_are_there():
    """Class 1 has recall (0.5 + 1) / 2, class 3 (0.2 + 0.6 + 1) / 3; there is no class 2."""
    probability = torch.tensor([[0.1, 0.5, 0.3, 0.1], [0.5, 0.2, 0.1, 0.2], [0.1, 0.2, 0.1, 0.6]])
    truth = torch.tensor([[[1], [3], [3]]])
    loss = skeleton_recall_loss(probability.log().T[None, :, :, None], truth, truth)
    assert loss.item() == pytest.approx(1 - (1.5 / 2 + 1.8 / 3) / 2, 1e-5)


def test_a_batch_without_skeleton_costs_nothing():
    none = torch.zeros(1, 4, 4, dtype=torch.long)
    assert skeleton_recall_loss(torch.rand(1, 2, 4, 4), none + 1, none).item() == 0


def test_the_skeleton_counts_with_its_weight():
    labels = {
        "lesions": torch.tensor([[[1, 0]]]),
        "lesions_skeleton": torch.tensor([[[1, 0]]]),
    }
    scores = {"lesions": logits_of(torch.tensor([[[0.8, 0.4]]]))}
    settings = LossSettings(cross_entropy=0, dice=0, skeleton_recall=3)
    assert loss_of(scores, labels, settings).item() == pytest.approx(3 * (1 - 1.8 / 2), 1e-5)


def two_structures() -> tuple[dict, dict]:
    scores = {"lesions": torch.zeros(1, 2, 1, 1), "regions": torch.zeros(1, 37, 1, 1)}
    labels = {"lesions": torch.ones(1, 1, 1), "regions": torch.ones(1, 1, 1)}
    return scores, labels


def test_fixed_task_weights_by_hand():
    settings = LossSettings(dice=0, lesions=2, regions=0.5)
    expected = 2 * math.log(2) + 0.5 * math.log(37)
    assert loss_of(*two_structures(), settings).item() == pytest.approx(expected, 1e-5)


def test_uncertainty_weights_by_hand():
    """Each loss L counts exp(-s) L + s / 2, least where exp(s) = 2 L."""
    settings = LossSettings(dice=0, task_weights="uncertainty")
    logs = {"lesions": torch.tensor(0.3), "regions": torch.tensor(-0.2, requires_grad=True)}
    expected = math.exp(-0.3) * math.log(2) + 0.15 + math.exp(0.2) * math.log(37) - 0.1
    assert loss_of(*two_structures(), settings, logs).item() == pytest.approx(expected, 1e-5)
    logs["regions"] = torch.tensor(math.log(2 * math.log(37)), requires_grad=True)
    loss_of(*two_structures(), settings, logs).backward()
    assert logs["regions"].grad.item() == pytest.approx(0, abs=1e-5)


def test_background_weight_of_the_regions_by_hand():
    probability = torch.full((1, 37, 1, 2), 1 / 37)
    labels = {"regions": torch.tensor([[[0, 5]]], dtype=torch.uint8)}
    settings = LossSettings(cross_entropy=1, dice=0, background_weight=0.25)
    probability[0, :, 0, 0], probability[0, 0, 0, 0] = 0.5 / 36, 0.5
    expected = (0.25 * math.log(2) + math.log(37)) / 1.25
    loss = loss_of({"regions": probability.log()}, labels, settings)
    assert loss.item() == pytest.approx(expected, 1e-4)


def test_lesion_counts_more_in_the_regions_by_hand():
    """Three pixels, -log p = 1, 2 and 4 of their own classes 0, 1, 1; the last is lesion."""
    surprise = torch.tensor([1.0, 2.0, 4.0])
    truth = torch.tensor([0, 1, 1])
    scores = torch.full((3, 37), -20.0)
    scores[range(3), truth] = -surprise
    scores[range(3), (truth + 1) % 37] = (1 - (-surprise).exp()).log()
    labels = {"regions": truth, "lesions": torch.tensor([0, 2, 1])}
    settings = LossSettings(dice=0.0, background_weight=0.5, lesions_in_regions=3.0)
    loss = structure_loss("regions", scores, labels, settings)
    assert loss.item() == pytest.approx((0.5 * 1 + 2 + 3 * 4) / (0.5 + 1 + 3), 1e-4)
    unknown = labels | {"regions": torch.tensor([255, 1, 1])}
    loss = structure_loss("regions", scores, unknown, settings)
    assert loss.item() == pytest.approx((2 + 3 * 4) / (1 + 3), 1e-4)


def test_regions_that_are_not_known_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 37, 4, 4, generator=generator)
    labels = torch.randint(0, 37, (2, 4, 4), generator=generator).byte()
    half = labels.clone()
    half[1] = 255
    of_one = loss_of({"regions": scores[:1]}, {"regions": labels[:1]}, LossSettings())
    of_half = loss_of({"regions": scores}, {"regions": half}, LossSettings())
    assert of_half == pytest.approx(float(of_one), rel=1e-5)


@pytest.mark.parametrize("lesions_in_regions", [1.0, 5.0])
def test_a_batch_whose_regions_are_all_unknown_teaches_lesions_alone(lesions_in_regions):
    torch.manual_seed(0)
    scores = {
        "lesions": torch.randn(2, 2, 4, 4, requires_grad=True),
        "regions": torch.randn(2, 37, 4, 4, requires_grad=True),
    }
    labels = {"lesions": torch.randint(0, 2, (2, 4, 4)), "regions": torch.full((2, 4, 4), LEFT_OUT)}
    settings = LossSettings(lesions_in_regions=lesions_in_regions)
    loss = loss_of(scores, labels, settings)
    loss.backward()
    alone = loss_of({"lesions": scores["lesions"]}, labels, settings)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-5)
    assert scores["lesions"].grad.any() and not scores["regions"].grad.any()
