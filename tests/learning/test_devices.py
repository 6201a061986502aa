"""Batches reach the device that trains, and no step waits for it to say what a tensor holds.

The ``meta`` device has shapes and no values: whoever looks at one there gets an error, as he would
make a GPU stop.
"""

import platform

import numpy as np
import pytest
import torch
from torch import nn

from tests.learning.conftest import tiny_slices, tiny_study
from tests.learning.test_inference import oblique_head
from tests.learning.test_mirroring import model_of
from tests.learning.test_volumes import study_of_volumes
from wmh.images import Image, ImageError
from wmh.learning.batches import draw_batch
from wmh.learning.devices import (
    DeviceError,
    autocast,
    choose_device,
    is_out_of_memory,
    keep_freed_memory,
    when_out_of_memory,
)
from wmh.learning.inference import predict
from wmh.learning.inputs import CONFIGURATIONS
from wmh.learning.losses import loss_of
from wmh.learning.networks.build import build_network, to_device
from wmh.learning.optimiser import build_optimiser
from wmh.learning.slices import Slices

NO_VALUES = torch.device("meta")
STUDIES = {2: tiny_study(), 3: study_of_volumes()}


def slices_for(device: torch.device, storage: str) -> Slices:
    """Slices for a device, which hold what is found out about them before the first step."""
    here = tiny_slices()
    there = here.to(device, storage)
    there.__dict__ |= {"holds": here.holds, "lesion_voxels": here.lesion_voxels}
    return there


@pytest.mark.parametrize(("storage", "place"), [("host", "cpu"), ("device", "meta")])
def test_slices_lie_where_the_study_says_and_batches_on_the_device(storage, place):
    slices = slices_for(NO_VALUES, storage)
    stacks = [slices.images, *slices.stacks(("lesions", "regions")).values()]
    assert {stack.device.type for stack in stacks} == {place}
    for study in STUDIES.values():
        batch = draw_batch(
            slices,
            CONFIGURATIONS["interchangeable"],
            "multitask",
            study.training,
            torch.Generator().manual_seed(0),
        )
        for part in batch.parts:
            tensors = [part.images, part.where, *part.labels.values()]
            assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("room", [True, False])
def test_slices_stay_in_the_hosts_memory_where_the_device_has_no_room(monkeypatch, room):
    asked = []
    monkeypatch.setattr("wmh.learning.slices.fits", lambda *of: asked.append(of) or room)
    slices = tiny_slices().to(NO_VALUES)
    assert asked == [(12 * 32 * 32 * (2 * 4 + 1 + 1), NO_VALUES)]
    assert slices.images.device.type == ("meta" if room else "cpu")


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("storage", ["host", "device"])
def test_no_step_looks_at_a_value_on_the_device(dimensions, storage):
    study, slices = STUDIES[dimensions], slices_for(NO_VALUES, storage)
    configuration = CONFIGURATIONS["interchangeable"]
    network = to_device(build_network(study.training.network, 1, "multitask"), NO_VALUES)
    optimiser = build_optimiser(network, torch.nn.ParameterDict(), study.training)
    generator = torch.Generator().manual_seed(0)
    batch = draw_batch(slices, configuration, "multitask", study.training, generator)
    loss_of(batch.logits(network), batch.labels, study.training.loss).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()


def test_a_gpu_that_is_not_here_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"compute\.device is cuda.*auto or cpu"):
        choose_device("cuda")


def test_volumes_on_a_cpu_compute_in_float32_whatever_is_asked():
    cpu = torch.device("cpu")
    layer, images = torch.nn.Conv3d(1, 2, 3), torch.zeros(1, 1, 4, 4, 4)
    for precision in ("auto", "bfloat16", "float32"):
        with autocast(cpu, precision, dimensions=3):
            assert layer(images).dtype == torch.float32
    with autocast(cpu, "bfloat16", dimensions=2):
        assert torch.nn.Conv2d(1, 2, 3)(images[..., 0]).dtype == torch.bfloat16


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
    assert "predicted 7 slices of 56 x 80 at once" in str(two.value)
    assert "Lower evaluation.slices_at_once to 3, or predict one subject" in str(two.value)


def test_the_c_library_takes_the_settings_where_it_has_them():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
