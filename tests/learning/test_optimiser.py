import pytest
import torch
from torch import nn

from tests.learning.conftest import tiny_study
from wmh.learning.optimiser import build_optimiser, learning_rate

FIRST_STEP = 1.9
"""Of AdamW with Nesterov's look ahead, in learning rates: one and its momentum."""


def one_step(network, log_variances=None):
    """Network and loss weights after a step, and before; every gradient is random."""
    training = tiny_study().training
    log_variances = nn.ParameterDict() if log_variances is None else log_variances
    optimiser = build_optimiser(network, log_variances, training)
    before = [p.detach().clone() for p in network.parameters()]
    for parameter in (*network.parameters(), *log_variances.parameters()):
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    return before, [p.detach() for p in network.parameters()], training


def test_a_convolution_steps_alike_in_every_direction():
    torch.manual_seed(0)
    network = nn.Conv2d(8, 16, 3, bias=False)
    (before,), (after,), training = one_step(network)
    step = (after - before * (1 - training.learning_rate * training.weight_decay)).flatten(1)
    sizes = torch.linalg.svdvals(step)
    assert sizes.min() > 0.5 * sizes.max()  # of a random matrix: 0.2
    # as large as AdamW's steps are on average: 0.2 of the learning rate
    assert step.square().mean().sqrt() == pytest.approx(0.2 * training.learning_rate, rel=0.2)


def test_what_is_no_matrix_steps_by_the_sign_of_its_first_gradient():
    torch.manual_seed(0)
    network = nn.BatchNorm2d(16)
    before, after, training = one_step(network)
    for old, new in zip(before, after, strict=True):
        step = new - old * (1 - training.learning_rate * training.weight_decay)
        assert step.abs().allclose(FIRST_STEP * training.learning_rate * torch.ones(16), rtol=1e-3)


def test_learned_loss_weights_do_not_decay():
    weights = nn.ParameterDict({"lesions": torch.tensor(1.0), "regions": torch.tensor(3.0)})
    *_, training = one_step(nn.Conv2d(8, 16, 3), weights)
    for name, start in (("lesions", 1.0), ("regions", 3.0)):
        moved = abs(weights[name].item() - start)
        assert moved == pytest.approx(FIRST_STEP * training.learning_rate, rel=1e-3)


def test_the_learning_rate_warms_up_and_ends_near_zero():
    training = tiny_study().training
    rates = [learning_rate(step, 100, training) for step in range(100)]
    assert rates[9] == max(rates) == training.learning_rate
    assert rates[0] == pytest.approx(rates[9] / 10)
    assert rates[-1] < rates[9] / 500
