"""What users read when memory runs out."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.learning.test_inference import oblique_head
from tests.learning.test_mirroring import model_of
from wmh.images import Image, ImageError
from wmh.learning.devices import is_out_of_memory, when_out_of_memory
from wmh.learning.inference import predict

CUDNN = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_the_systems_own_words_are_understood():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**55)
    with pytest.raises(MemoryError) as refused_array:
        np.empty(2**55)
    for error in (refused.value, refused_array.value, CUDA, CUDNN):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_only_errors_of_memory_are_told_in_other_words():
    with (
        pytest.raises(KeyError, match="words") as told,
        when_out_of_memory(lambda: KeyError("words")),
    ):
        raise CUDA
    assert told.value.__cause__ is CUDA
    with pytest.raises(RuntimeError, match="shapes"), when_out_of_memory(lambda: KeyError("words")):
        raise RuntimeError("shapes")


class TooLarge(nn.Module):
    """A network that needs more memory than any machine has."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images, where):
        return {"lesions": torch.empty(2**55)}


def test_a_scan_too_large_for_the_memory_is_named_with_the_setting_to_lower():
    image = oblique_head(False)
    named = Image(image.data, image.affine, path="scan.nii.gz")
    with pytest.raises(
        ImageError, match=r"^scan\.nii\.gz: the machine's memory ran out.*'m'"
    ) as two:
        predict(model_of(TooLarge(), 2), {"FLAIR": named})
    assert "looked at 7 slices of 56 x 80 at once" in str(two.value)
    assert "Lower evaluation.slices_at_once to 3, or predict one subject" in str(two.value)
