"""A simulated cohort on disk, in the folder layout of the challenge.

Each subject's folder has a marker file. When all images are written, it gets a fingerprint of
everything that they depend on. An interrupted run continues with the subjects without a
fingerprint, and a finished one has nothing to do. After a change of settings, seed or simulation
code the subjects are made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

import wmh.atlas
from wmh.cohorts import scanners
from wmh.cohorts.cohort import CohortError
from wmh.cohorts.scanners import SCANNERS, SIMULATED
from wmh.cores import cores_here, processes
from wmh.files import complete, fingerprint
from wmh.images import save_image
from wmh.phantom.lesion_load import MARKER, LesionLoad, draw_lesion_loads, lesion_statistics
from wmh.phantom.references import head, head_files, template
from wmh.phantom.simulate import simulate_subject
from wmh.settings import Simulation
from wmh.study import Study, project_root

WEIGHTS = {"training": 2, "test": 1}
"""Relative numbers of a scanner's subjects in the two splits."""


@dataclass(frozen=True)
class PlannedSubject:
    """A subject to simulate: its folder below the cohort's, and everything its images depend on."""

    id: str
    folder: str
    scanner: str
    seed: int
    load: LesionLoad
    coarsening: int
    fingerprint: str


def simulate_study(study: Study) -> None:
    """Simulate the subjects of a study with a simulated cohort; do nothing for any other study."""
    if study.cohort.simulation is not None:
        seed = study.seed_for("simulation")
        simulate_cohort(study.cohort_folder, study.cohort.simulation, seed, cores_here())


def simulate_cohort(folder: Path, simulation: Simulation, seed: int, jobs: int = 2) -> None:
    """Write the simulated cohort below ``folder``, ``jobs`` subjects at a time.

    The same settings and seed give the same bytes, for any ``jobs``. Complete subjects are kept;
    simulated subjects that do not belong to these settings are removed. Raises
    :class:`CohortError` for an unknown scanner, and for a folder with subjects that were not
    simulated.
    """
    plan = plan_cohort(simulation, seed)
    _clear_strangers(folder, {subject.folder for subject in plan})
    missing = [subject for subject in plan if not _is_complete(folder, subject)]
    if not missing:
        return
    heads = ()
    if simulation.anatomy == "heads":
        heads = tuple(head_files(project_root() / simulation.heads_folder))
    else:
        template()  # prepared here, so that the forked processes share it
    with processes(min(jobs, max(len(missing), len(heads))), start="fork") as pool:
        for _ in tqdm(pool.map(head, heads), "heads", len(heads), disable=not heads):
            pass  # each prepared head is now on disk, for all subjects made from it
        futures = [pool.submit(_write_subject, folder, subject, heads) for subject in missing]
        for future in tqdm(
            as_completed(futures), total=len(futures), desc="simulating", unit="subject"
        ):
            future.result()


def simulation_of(subjects: int, coarsening: int = 1) -> Simulation:
    """Divide ``subjects`` over training (three scanners) and test (all five).

    Of 33 subjects, 18 are for training and 15 for testing. Raises :class:`CohortError` for fewer
    than eight, one for each scanner of each split.
    """
    if subjects < 8:
        raise CohortError(
            f"{subjects} subjects are too few: give at least 8, one per scanner of each split"
        )
    shared_by = [
        (split, scanner.name)
        for split in WEIGHTS
        for scanner in SCANNERS.values()
        if split == "test" or scanner.in_training
    ]
    weights = np.array([WEIGHTS[split] for split, _ in shared_by], dtype=float)
    counts = np.ones(len(shared_by), dtype=int)
    for _ in range(subjects - len(shared_by)):
        counts[np.argmin(counts / weights)] += 1  # the one with fewest subjects for its weight
    shares: dict[str, dict[str, int]] = {split: {} for split in WEIGHTS}
    for (split, scanner), count in zip(shared_by, counts, strict=True):
        shares[split][scanner] = int(count)
    return Simulation(**shares, in_plane_coarsening=coarsening)


def plan_cohort(simulation: Simulation, seed: int) -> list[PlannedSubject]:
    """All subjects of the cohort, numbered over both splits; each split gets all lesion loads."""
    here, atlas = Path(__file__).parent, Path(wmh.atlas.__file__).parent
    facts = [*(here / "facts").glob("*.csv"), *(atlas / "facts").glob("*.csv")]
    code = fingerprint([*here.glob("*.py"), Path(scanners.__file__), atlas / "regions.py", *facts])
    plan: list[PlannedSubject] = []
    for split in ("training", "test"):
        counts: dict[str, int] = getattr(simulation, split)
        unknown = sorted(set(counts) - set(SIMULATED))
        if unknown:
            raise CohortError(
                f"cohort.simulation.{split}: unknown scanner {unknown[0]!r}; use one of "
                f"{', '.join(SIMULATED)}"
            )
        names = list(Counter(counts).elements())
        loads = draw_lesion_loads(np.random.default_rng(_seed(seed, split)), len(names))
        for name, load in zip(names, loads, strict=True):
            number = str(len(plan))
            subject = {
                "id": number,
                "folder": f"{split}/{SIMULATED[name].folder}/{number}",
                "scanner": name,
                "seed": _seed(seed, number),
                "load": load,
                "coarsening": simulation.in_plane_coarsening,
            }
            follows_from = fingerprint([], code, simulation.anatomy, repr(sorted(subject.items())))
            plan.append(PlannedSubject(**subject, fingerprint=follows_from))
    return plan


def _write_subject(cohort: Path, subject: PlannedSubject, heads: tuple[Path, ...]) -> None:
    """Simulate and write one subject; the last step marks it as complete."""
    folder = cohort / subject.folder
    _mark(folder, {"fingerprint": None})
    made = simulate_subject(
        SIMULATED[subject.scanner], subject.seed, subject.load, subject.coarsening, heads
    )
    for name, image in (
        ("orig/FLAIR", made.flair_raw),
        ("orig/T1", made.t1_raw),
        ("pre/FLAIR", made.flair),
        ("pre/T1", made.t1),
        ("wmh", made.lesions),
        ("regions", made.regions),
    ):
        data = image.data.astype(np.float32) if name == "wmh" else image.data
        save_image(folder / f"{name}.nii.gz", data, image)
    statistics = lesion_statistics(made.lesions, made.ventricles)
    _mark(folder, {"fingerprint": subject.fingerprint, "lesion_statistics": statistics})


def _mark(folder: Path, content: dict[str, object]) -> None:
    with complete(folder / MARKER) as part:
        part.write_text(json.dumps(content, indent=1))


def _is_complete(cohort: Path, subject: PlannedSubject) -> bool:
    marker = cohort / subject.folder / MARKER
    try:
        return json.loads(marker.read_text())["fingerprint"] == subject.fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _clear_strangers(cohort: Path, planned: set[str]) -> None:
    """Remove simulated subjects that are not planned; refuse a folder with anything else."""
    for other in sorted(cohort.glob("[!.]*")):
        if other.name not in WEIGHTS:
            raise CohortError(
                f"{other}: was not simulated. Choose another folder for the simulated cohort; for "
                "your own images, set cohort.source to their kind and remove cohort.simulation"
            )
    for split in ("training", "test"):
        for pre in sorted((cohort / split).glob("**/pre")):
            subject = pre.parent
            if not (subject / MARKER).exists():
                raise CohortError(
                    f"{subject}: was not simulated. Choose another folder for the simulated cohort"
                )
            if subject.relative_to(cohort).as_posix() not in planned:
                shutil.rmtree(subject)


def _seed(*purpose: str | int) -> int:
    words = "/".join(map(str, ("simulated cohort", *purpose)))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")
