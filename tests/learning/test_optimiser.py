import pytest
import torch
from torch import nn

from tests.learning.conftest import tiny_study
from wmh.learning.optimiser import build_optimiser, inverse_roots, is_matrix, learning_rate

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


@pytest.mark.parametrize(("channels", "filters"), [(8, 16), (2, 64)])
def test_a_convolution_steps_alike_in_every_direction(channels, filters):
    torch.manual_seed(0)
    network = nn.Conv2d(channels, filters, 3, bias=False)
    (before,), (after,), training = one_step(network)
    step = (after - before * (1 - training.learning_rate * training.weight_decay)).flatten(1)
    sizes = torch.linalg.svdvals(step)
    assert sizes.min() > 0.5 * sizes.max()  # of a random matrix: 0.2
    # as large as AdamW's steps are on average: 0.2 of the learning rate
    assert step.square().mean().sqrt() == pytest.approx(0.2 * training.learning_rate, rel=0.2)


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 48, 128), (1, 8, 8)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape):
    matrices = 50 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = left.mT @ inverse_roots(matrices @ matrices.mT) @ matrices @ right.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.2
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-2


def test_nothing_comes_of_a_matrix_of_zeros():
    nothing = torch.zeros(1, 8, 16)
    assert not (inverse_roots(nothing @ nothing.mT) @ nothing).any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((16, 8, 3, 3), True),
        ((16, 8, 3, 3, 3), True),
        ((32, 64), True),
        ((16,), False),
        ((2, 16, 1, 1), False),
        ((32, 1, 3, 3), False),  # depthwise
        ((1, 196, 768), False),  # places of a transformer
        ((37, 20, 30, 30), False),  # a table of places
    ],
)
def test_filters_that_mix_channels_are_matrices(shape, expected):
    assert is_matrix(torch.empty(shape)) == expected


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
