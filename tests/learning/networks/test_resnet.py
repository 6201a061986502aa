"""The encoders and the decoder beside the ones whose layers they name."""

import pytest
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder

from wmh.learning.networks.resnet import BLOCKS, Decoder, build_encoder

IMAGES = torch.rand(2, 5, 48, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "depth"), [("resnet18", 3), ("resnet18", 4), ("resnet34", 5)])
def test_an_encoder_answers_as_the_librarys(name, depth):
    assert name in BLOCKS
    theirs = get_encoder(name, in_channels=5, depth=depth, weights=None)
    ours = build_encoder(name, 5, depth)
    weights = theirs.state_dict()
    ours.load_state_dict({layer: weights[layer] for layer in ours.state_dict()})
    found, expected = ours(IMAGES), theirs(IMAGES)
    assert len(found) == len(expected) == depth + 1
    assert ours.out_channels == list(theirs.out_channels)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not any(layer.startswith(f"layer{depth}") for layer in ours.state_dict())


def test_a_decoder_answers_as_the_librarys():
    encoder, channels = build_encoder("resnet18", 5, 3), (24, 16, 8)
    theirs, ours = (
        UnetDecoder(encoder.out_channels, channels, 3),
        Decoder(encoder.out_channels, channels),
    )
    ours.load_state_dict(theirs.state_dict())
    features = encoder(IMAGES)
    torch.testing.assert_close(ours(features), theirs(features))
