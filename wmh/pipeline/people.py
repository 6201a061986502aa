"""Prediction of a folder on a cluster: several people per job, and the tables at the end.

A job predicts its people as ``wmh predict FOLDER`` does, and writes one file with their outcomes to
``OUT/.jobs/``. The command itself waits for all jobs and writes the tables from these files. Logs
stay in that folder until everything has succeeded.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import traceback
from pathlib import Path

from wmh.cores import cores_here
from wmh.files import complete
from wmh.pipeline.driver import RunError, raise_unless_profile, run_snakemake
from wmh.predict.folder import Done, People, find_people, only_one, predict_all, predict_people
from wmh.study import Study, load_study

SNAKEFILE = Path(__file__).with_suffix(".smk")
TASK = "jobs.json"


def predict_on_cluster(
    study: Study | None, source: Path, out: Path, profile: Path, people_a_job: int
) -> list[Done]:
    """Predict as :func:`wmh.predict.folder.predict_folder` does, as jobs of a Snakemake profile.

    Raises :class:`RunError` when a job fails, after all others have ended. A second call continues:
    finished people are kept.
    """
    raise_unless_profile(profile)
    jobs = out / ".jobs"

    def predict_these(people: People) -> list[Done]:
        starts = range(0, len(people), people_a_job)
        ends = [min(start + people_a_job, len(people)) for start in starts]
        parts = {f"{s + 1}_to_{end}": (s, end) for s, end in zip(starts, ends, strict=True)}
        task = {
            "here": str(Path.cwd()),  # so that messages name files as the user gave them
            "study": study and study.name,
            "source": str(source),
            "out": str(out),
            "parts": parts,
            "gpu": int(study is not None and study.compute.device == "cuda"),
        }
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)),
            *("--nolock", "--rerun-incomplete", "--quiet", "host"),
            *("--profile", str(profile.resolve())),
        ]
        with only_one(jobs) as lock:
            for old in jobs.glob("*.done"):
                old.unlink()
            (jobs / TASK).write_text(json.dumps(task, indent=2))
            print(f"{len(people)} people in {len(parts)} jobs: {jobs}", flush=True)
            what = f"predicting {source}"
            run_snakemake(what, "the same command", command, jobs, jobs / "snakemake.log", lock)
        done = [one for part in parts for one in pickle.loads((jobs / f"{part}.done").read_bytes())]
        if [one.place for one in done] != [place for _, place in people]:
            raise RunError(f"{source}: the people changed meanwhile. Run the same command again")
        return done

    done = predict_all(source, out, predict_these)
    shutil.rmtree(jobs)
    return done


def run_job(part: str) -> None:
    """Predict the people of one job; called in the folder of the jobs."""
    jobs = Path.cwd()
    task = json.loads((jobs / TASK).read_text())
    os.chdir(task["here"])
    study = load_study(task["study"]) if task["study"] else None
    source = Path(task["source"])
    people = find_people(source, Path(task["out"]))[slice(*task["parts"][part])]
    with only_one(jobs / part):  # the same job of a killed command may still run
        done = predict_people(study, source, people, cores_here())
    with complete(jobs / f"{part}.done") as file:
        file.write_bytes(pickle.dumps(done))


def main() -> None:
    """``python -m wmh.pipeline.people PART``, called by the rule in ``people.smk``."""
    (part,) = sys.argv[1:]
    try:
        run_job(part)
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"wmh: people {part.replace('_', ' ')} failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
