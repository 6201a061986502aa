"""Where a network computes, and how precisely."""

from __future__ import annotations

from contextlib import nullcontext

import torch


class DeviceError(ValueError):
    """A device that is not here. The message says which setting to change."""


def choose_device(wanted: str) -> torch.device:
    """The device a study asks for; ``auto`` is a GPU where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError("compute.device is cuda, and no GPU is here; set it to auto or cpu")
    return torch.device(wanted)


def autocast(device: torch.device, precision: str, dimensions: int) -> torch.autocast | nullcontext:
    """Mixed precision as the study says; ``auto`` takes bfloat16 where it is native.

    Networks for volumes compute in float32 on a CPU whatever it says: there, the gradients of 3-D
    convolutions in bfloat16 differ from run to run, and some are infinite.
    """
    if device.type == "cpu" and dimensions == 3:
        return nullcontext()
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else torch.cpu._is_avx512_bf16_supported()
    )
    if precision == "bfloat16" or (precision == "auto" and native):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor to a device; to a GPU from pinned memory, so that nothing waits for it."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
