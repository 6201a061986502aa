"""What holds for the whole of augmentation, in slices and volumes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learning.augment.conftest import ALWAYS, NOTHING, augmented, batch
from wmh.learning.augment import apply, draw
from wmh.settings import Augmentation

BOTH = pytest.mark.parametrize("dimensions", [2, 3])


@BOTH
@pytest.mark.parametrize(
    "off", [NOTHING, Augmentation(probability=0.0, mirroring=False)], ids=["strength", "chance"]
)
def test_nothing_changes_nothing(off, dimensions):
    images, labels = batch(dimensions=dimensions)
    moved, moved_labels = augmented(off, dimensions=dimensions)
    assert (moved - images).abs().max() < 1e-4
    for name, label in labels.items():
        assert torch.equal(moved_labels[name], label)


@BOTH
def test_a_seed_gives_the_same_batch_and_another_seed_another(dimensions):
    first, again, other = (augmented(ALWAYS, seed, dimensions) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])
    assert not torch.equal(first[0], other[0])


@BOTH
def test_samples_of_a_batch_differ(dimensions):
    moved, _ = augmented(ALWAYS, dimensions=dimensions)
    assert all(not torch.equal(moved[0], sample) for sample in moved[1:])


@pytest.mark.parametrize("shape", [(8, 2, 16, 16), (8, 2, 16, 16, 8)])
def test_every_parameter_differs_between_samples(shape):
    drawn = vars(draw(shape, ALWAYS, torch.Generator().manual_seed(0)))
    alike = [name for name, value in drawn.items() if (value == value[:1]).all()]
    assert not alike


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_labels_stay_labels(seed, dimensions):
    images, labels = augmented(ALWAYS, seed, dimensions)
    assert torch.isfinite(images).all()
    assert set(labels["lesions"].unique().tolist()) <= {0, 1}
    assert set(labels["regions"].unique().tolist()) <= {0, 4, 21}
    assert all(label.dtype == torch.uint8 for label in labels.values())
    assert torch.equal(labels["regions"], labels["regions_skeleton"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_share_of_changed_samples_is_the_probability(seed, probability):
    generator = torch.Generator().manual_seed(seed)
    drawn = draw((400, 2, 16, 16), Augmentation(probability=probability), generator)
    share = (drawn.gamma != 1).float().mean().item()
    assert share == pytest.approx(probability, abs=0.1)


def test_inputs_are_left_as_they_are():
    images, labels = batch()
    before, before_labels = images.clone(), {name: label.clone() for name, label in labels.items()}
    apply(images, labels, draw(tuple(images.shape), ALWAYS, torch.Generator().manual_seed(0)))
    assert torch.equal(images, before)
    assert all(torch.equal(labels[name], before_labels[name]) for name in labels)
