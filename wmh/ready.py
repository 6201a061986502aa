"""Checks that a study can run, made before its first stage.

Reading a study's settings does not make these checks, so that they can be read on any machine.
"""

from __future__ import annotations

from pathlib import Path

from wmh.provenance import gpus_here
from wmh.study import Study, StudyError, load_study, project_root

DEVICES, GPUS = Path("/dev"), ("nvidia[0-9]*", "dxg", "kfd")
"""Device files of GPUs: NVIDIA's, any GPU in the Windows Subsystem for Linux, AMD's."""


def raise_unless_ready(study: Study, gpu: bool = True) -> None:
    """Raise :class:`StudyError` if a study lacks a GPU, images, a table or the study to start from.

    Without ``gpu`` the GPU is not checked: the machine that sends jobs to a cluster has none.
    """
    if gpu:
        raise_without_gpu(study)
    cohort, simulation = study.cohort, study.cohort.simulation
    heads = simulation.heads_folder if simulation and simulation.anatomy == "heads" else None
    atlas = study.regions.atlas_folder if study.regions.atlas in ("jhu", "published") else None
    fetch = "; `wmh fetch {}` brings it".format

    def brings(table: Path | None) -> str:
        return fetch("open") if table and table.parent.name == "open_scans" else ""

    images = fetch("challenge") if cohort.source == "challenge" else brings(cohort.folder)
    for key, place, remedy in (
        ("cohort.folder", None if simulation else cohort.folder, images),
        ("cohort.further", cohort.further, brings(cohort.further)),
        ("cohort.simulation.heads_folder", heads, fetch("heads")),
        ("regions.atlas_folder", atlas, fetch("atlas")),
        ("participants.table", study.participants and study.participants.table, ""),
    ):
        if place is not None and not (project_root() / place).exists():
            raise StudyError(f"study {study.name}: {key}: {place} does not exist{remedy}")
    if (source := study.training.start_from) not in (None, "general"):
        try:
            load_study(source)
        except StudyError as error:
            raise StudyError(
                f"study {study.name}: training.start_from: {error}. Or start from general"
            ) from error


def raise_without_gpu(study: Study) -> None:
    """Raise :class:`StudyError` if a study asks for a GPU and this machine has none."""
    found = [file for name in GPUS for file in DEVICES.glob(name)]
    if study.compute.device == "cuda" and not found and not gpus_here():
        raise StudyError(
            f"study {study.name}: compute.device is cuda, but this machine has no GPU; set it to "
            "auto or cpu"
        )
