"""The published MultiResUNet: parameters, widths, and what a block and a path compute.

Ibtehaz and Rahman (2020) give 7,262,750 parameters in 2-D and 18,657,689 in 3-D, for 3 and 4 input
channels and one output, as Keras counts them: their code (nibtehaz/MultiResUNet, tensorflow/
MultiResUNet.py and MultiResUNet3D.py) adds up to the same. Keras counts the running mean and
variance of batch normalisation, and right behind a convolution it has no scale; the head is a
convolution without bias that is normalised, too.
"""

import pytest
import torch
from torch import nn

from wmh.learning.networks.multiresunet import MultiResBlock, ResUnit, parts

HEAD = {"before": 51, "keras": 51 + 3, "ours": 51 * 2 + 2}


def keras_parameters(network: nn.Module) -> int:
    """Our parameters, counted as Keras would count the published network's."""
    count = sum(p.numel() for p in network.parameters())
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            count += 2 * module.num_features  # running mean and variance
        if isinstance(module, nn.Sequential) and _is_convolution_and_norm(module):
            count -= module[1].num_features  # its scale
    return count - HEAD["ours"] + HEAD["keras"]


def _is_convolution_and_norm(module: nn.Sequential) -> bool:
    return len(module) == 2 and isinstance(module[0], nn.Conv2d | nn.Conv3d)


@pytest.mark.parametrize(
    ("dimensions", "channels", "published"), [(2, 3, 7_262_750), (3, 4, 18_657_689)]
)
def test_parameters_are_the_published_ones(dimensions, channels, published):
    encoder, decoders = parts(dimensions, channels, 32, ("lesions",))
    assert decoders["lesions"].head.in_channels == HEAD["before"]
    assert keras_parameters(nn.ModuleList([encoder, decoders["lesions"]])) == published


def test_levels_have_the_published_widths():
    """Table 1 of the paper: filters of the MultiRes blocks and lengths of the Res paths."""
    encoder, decoders = parts(2, 3, 32, ("lesions",))
    widths = [[c[0][0].out_channels for c in block.convolutions] for block in encoder.blocks]
    assert widths == [[8, 17, 26], [17, 35, 53], [35, 71, 106], [71, 142, 213], [142, 284, 427]]
    assert [len(path) for path in encoder.paths] == [4, 3, 2, 1]
    assert [path[0].convolution[0][0].out_channels for path in encoder.paths] == [32, 64, 128, 256]
    above = [[c[0][0].out_channels for c in b.convolutions] for b in decoders["lesions"].blocks]
    assert above == widths[-2::-1]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_block_sees_as_far_as_a_kernel_of_seven(dimensions):
    block = MultiResBlock(dimensions, 1, 8).eval()
    size = (15,) * dimensions
    image = torch.zeros(1, 1, *size, requires_grad=True)
    middle = (0, slice(None), *[7] * dimensions)
    reach = []
    for convolution_end in (2, 4, 6):  # 1 + 2 n pixels wide after n convolutions
        wide = block.convolutions[: convolution_end // 2]
        out = image
        for convolution in wide:
            out = convolution[0][0](out)  # the linear part alone
        (gradient,) = torch.autograd.grad(out[middle].sum(), image)
        reach.append(int((gradient[0, 0].flatten(1).any(dim=1)).sum()))
    assert reach == [3, 5, 7]


def test_a_unit_is_the_sum_of_convolution_and_shortcut():
    torch.manual_seed(0)
    unit = ResUnit(2, 3, 4).eval()
    image = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        sum_of_both = unit.shortcut(image) + unit.convolution(image)
        expected = sum_of_both.relu() / (1 + 1e-5) ** 0.5  # a fresh norm divides by that
        torch.testing.assert_close(unit(image), expected)
