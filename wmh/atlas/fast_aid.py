"""FAST-AID Brain: reading its segmentation of a T1-weighted image, and running its container.

The published labels start from this segmentation (https://github.com/Mostafa-Ghazi/FAST-AID-Brain).
The container needs Apptainer or Singularity and is not part of this project.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from wmh.images import Image, load_labels, resample_to

WHITE_MATTER = (44, 45)
"""Left and right cerebral white matter in a FAST-AID segmentation."""

INSTALL = (
    "Install Apptainer (https://apptainer.org/docs/admin/main/installation.html), get "
    "fast_aid_brain.sif as https://github.com/Mostafa-Ghazi/FAST-AID-Brain describes, and name it "
    "with --container. It is optional: without it, wmh segments the T1 itself"
)


class FastAidError(RuntimeError):
    """FAST-AID Brain could not be run. The message says what is missing."""


def segmentation_beside(t1: Path | None) -> Path | None:
    """The segmentation beside a T1: ``NAME_seg.nii.gz`` for ``NAME.nii.gz``; None if missing."""
    if t1 is None:
        return None
    beside = t1.with_name(f"{t1.name.removesuffix('.gz').removesuffix('.nii')}_seg.nii.gz")
    return beside if beside.is_file() else None


def read_white_matter(segmentation: Path, t1: Image) -> Image:
    """The cerebral white matter (uint8 mask) of a FAST-AID segmentation, on the T1's grid."""
    labels = load_labels(segmentation)
    mask = np.isin(labels.data, WHITE_MATTER).astype(np.uint8)
    return resample_to(replace(labels, data=mask), t1, order=0)


def run_fast_aid(
    t1_folder: Path, output_folder: Path, container: Path, threads: int = 16, device: str = "gpu"
) -> None:
    """Segment a folder of T1-weighted images by the command line of the published repository.

    The container's own messages are printed. Raises :class:`FastAidError`, which says what to
    install, if Apptainer and Singularity or the container file are missing, and if the run fails.
    """
    program = shutil.which("apptainer") or shutil.which("singularity")
    if program is None:
        raise FastAidError(f"neither apptainer nor singularity is installed. {INSTALL}")
    if not container.is_file():
        raise FastAidError(f"{container}: no such container. {INSTALL}")
    command = [
        *(program, "run", *(["--nv"] if device == "gpu" else []), str(container)),
        *(f"{t1_folder}/", f"{output_folder}/", str(threads), device),
        *("weighted-majority", "uint8", "1", "2"),
    ]
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        raise FastAidError(
            f"{' '.join(command)}: failed with exit code {error.returncode}. See its messages above"
        ) from error
