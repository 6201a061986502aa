"""The needs of a study, looked at before anything is begun.

Reading a study asks for none of it: its settings may be looked at anywhere.
"""

from __future__ import annotations

from pathlib import Path

from wmh.provenance import gpus_here
from wmh.study import Study, StudyError, load_study, project_root

DEVICES, GPUS = Path("/dev"), ("nvidia[0-9]*", "dxg", "kfd")
"""Files that stand for GPUs: NVIDIA's, any in a Linux below Windows, AMD's."""


def raise_unless_ready(study: Study, gpu: bool = True) -> None:
    """Raise :class:`StudyError` where a study cannot run for want of a GPU, images or a table, or
    of the study whose weights it starts from.

    Without ``gpu`` it is not looked for one: the machine that sends jobs to a cluster has none.
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
            raise StudyError(f"study {study.name}: {key}: {place} is not there{remedy}")
    if (source := study.training.start_from) not in (None, "general"):
        try:
            load_study(source)
        except StudyError as error:
            raise StudyError(
                f"study {study.name}: training.start_from, general or a study: {error}"
            ) from error


def raise_without_gpu(study: Study) -> None:
    """Raise :class:`StudyError` where a study asks for a GPU and this machine has none."""
    found = [file for name in GPUS for file in DEVICES.glob(name)]
    if study.compute.device == "cuda" and not found and not gpus_here():
        raise StudyError(
            f"study {study.name}: compute.device is cuda, and no GPU is here; set it to auto or cpu"
        )
