import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmh.learning.networks.encoder_decoders import pad_to_multiple


@given(
    edges=st.lists(st.integers(1, 20), min_size=2, max_size=3), multiple=st.sampled_from([4, 8, 16])
)
def test_what_was_there_lies_in_the_middle_of_the_padded(edges, multiple):
    images = torch.rand(2, 3, *edges) + 1
    padded, inside = pad_to_multiple(images, multiple)
    assert torch.equal(padded[inside], images)
    assert float(padded.sum()) == pytest.approx(float(images.sum()))  # nothing but background
    for edge, there, where in zip(padded.shape[2:], edges, inside[1:], strict=True):
        assert edge % multiple == 0
        assert edge - there < multiple
        assert (edge - where.stop) - where.start in (0, 1)


def test_what_halves_evenly_stays_as_it_is():
    images = torch.rand(1, 1, 16, 32)
    padded, inside = pad_to_multiple(images, 16)
    assert torch.equal(padded, images)
    assert padded[inside].shape == images.shape
