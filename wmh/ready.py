"""What a study needs of this machine, looked at before anything is begun.

Reading a study asks for none of it: its settings may be looked at anywhere.
"""

from __future__ import annotations

from pathlib import Path

from wmh.provenance import gpus_here
from wmh.study import Study, StudyError, project_root

DEVICES, GPUS = Path("/dev"), ("nvidia[0-9]*", "dxg", "kfd")
"""Where GPUs appear: NVIDIA's, any in a Linux below Windows, AMD's."""


def raise_unless_ready(study: Study) -> None:
    """Raise :class:`StudyError` where a study cannot run for want of a GPU, images or a table."""
    raise_without_gpu(study)
    fetch = {"challenge": "; `wmh fetch challenge` brings it"}.get(study.cohort.source, "")
    atlas_folder = None if study.regions.atlas == "built-in" else study.regions.atlas_folder
    for key, place, remedy in (
        ("cohort.folder", None if study.cohort.simulation else study.cohort.folder, fetch),
        ("regions.atlas_folder", atlas_folder, "; `wmh fetch atlas` brings it"),
        ("participants.table", study.participants and study.participants.table, ""),
    ):
        if place is not None and not (project_root() / place).exists():
            raise StudyError(f"study {study.name}: {key}: {place} is not there{remedy}")


def raise_without_gpu(study: Study) -> None:
    """Raise :class:`StudyError` where a study asks for a GPU and this machine has none."""
    found = [file for name in GPUS for file in DEVICES.glob(name)]
    if study.compute.device == "cuda" and not found and not gpus_here():
        raise StudyError(
            f"study {study.name}: compute.device is cuda, and no GPU is here; set it to auto or cpu"
        )
