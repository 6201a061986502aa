import pytest
import torch

from wmh.learning.losses import loss_of
from wmh.learning.networks import CLASSES, STRUCTURES, build_network, normalise_by_batch
from wmh.study import LossSettings, NetworkSettings

SMALL = NetworkSettings(encoder="resnet18", depth=4, decoder_channels=(32, 16, 16, 8))


@pytest.mark.parametrize("task", STRUCTURES)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_task_and_channel_count_gives_logits_of_the_input_size(task, channels):
    network = build_network(SMALL, channels, task).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, channels, 64, 96))
    assert set(logits) == set(STRUCTURES[task])
    for structure, scores in logits.items():
        assert scores.shape == (2, CLASSES[structure], 64, 96)


def test_a_step_lowers_the_loss():
    torch.manual_seed(0)
    network = build_network(SMALL, 1, "multitask").train()
    images = torch.rand(4, 1, 32, 32)
    labels = {
        "lesions": (images[:, 0] > 0.7).byte(),
        "regions": torch.randint(0, 37, (4, 32, 32), dtype=torch.uint8),
    }
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    before = loss_of(network(images), labels, LossSettings())
    before.backward()
    optimiser.step()
    assert loss_of(network(images), labels, LossSettings()) < before


def test_the_multitask_network_shares_its_encoder_and_nothing_else():
    network = build_network(SMALL, 1, "multitask")
    count = {
        task: sum(p.numel() for p in build_network(SMALL, 1, task).parameters())
        for task in STRUCTURES
    }
    shared = [*network.encoder.parameters(), *network.detail.parameters()]
    once = sum(p.numel() for p in shared)
    assert count["multitask"] == count["lesions"] + count["regions"] - once


def test_normalising_by_the_batch_ignores_what_was_learned_of_others():
    torch.manual_seed(0)
    network = normalise_by_batch(build_network(SMALL, 1, "lesions"))
    images = torch.rand(4, 1, 32, 32)
    with torch.inference_mode():
        before = network(images)["lesions"]
        network(50 * torch.rand(4, 1, 32, 32))  # another scanner
        assert torch.equal(network(images)["lesions"], before)
