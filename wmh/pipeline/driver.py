"""Running a whole study: Snakemake decides what is to do, stages say how they fare."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wmh.cores import cores_here
from wmh.pipeline.cards import cards_here
from wmh.pipeline.stages import files_of, stages_of
from wmh.pipeline.watch import DRIVER, kill_children, name_driver
from wmh.ready import raise_unless_ready
from wmh.study import Study, project_root

CANCEL_SECONDS = 60
"""Time that Snakemake has to cancel the jobs of a cluster when it is stopped."""


class RunError(RuntimeError):
    """Work that did not go through. The message names the notebook or job, and its log."""


def run_study(study: Study, profile: Path | None = None) -> None:
    """Bring everything a study makes up to date: notebooks, tables, figures and pages.

    It runs here, or where a Snakemake ``profile`` says, such as on a cluster. What is already up to
    date is left alone, and an interrupted run is gone on with. Raises :class:`RunError` when a
    notebook fails or when the study is already being run, and :class:`StudyError` when what it
    needs is not there.
    """
    raise_unless_profile(profile)
    raise_unless_ready(study, gpu=profile is None)
    root, began = project_root(), time.time()
    index = study.results / "html" / "index.html"
    log = study.results / "logs" / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with _only_run(study) as lock:
        print(f"Study {study.name}: {study.title} ({len(stages_of(study))} stages)", flush=True)
        what, again = f"study {study.name}", f"`wmh run {study.name}`"
        command = _snakemake(study, profile)
        run_snakemake(what, again, command, root, log, lock, WMH_ROOT=str(root))
    records = [files_of(study, stage).record for stage in stages_of(study)]
    ran = [record for record in records if record.exists() and record.stat().st_mtime >= began]
    done = f"{len(ran)} stages run" if ran else "everything was up to date"
    print(f"Study {study.name}: {done}, {time.time() - began:.0f} s. {index.relative_to(root)}")


def raise_unless_profile(profile: Path | None) -> None:
    """Raise :class:`RunError` for a folder that is no Snakemake profile."""
    if profile is not None and not (profile / "config.yaml").is_file():
        raise RunError(f"{profile}: no Snakemake profile; it is a folder with a config.yaml")


def run_snakemake(
    what: str, again: str, command: list[str], folder: Path, log: Path, lock: int, **variables: str
) -> None:
    """Run Snakemake in a folder, its output in a log, and with environment variables of its own.

    It too holds the lock (a file descriptor), so that it is given free when both have ended.

    Raises :class:`RunError`, which says why ``what`` failed, or that ``again`` goes on when it was
    stopped.
    """
    patience_seconds = CANCEL_SECONDS if "--profile" in command else 0
    with _stops_with_all_it_started(what, again, patience_seconds), log.open("w") as file:
        code = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {DRIVER: name_driver()} | variables,
            stdin=subprocess.DEVNULL,
            stderr=file,
            pass_fds=[lock],
            process_group=0,  # a Ctrl-C of the terminal reaches it through us, and once
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # `wmh ... &` is deaf
        ).returncode
    if code != 0:
        raise RunError(_what_failed(what, log))


@contextmanager
def _stops_with_all_it_started(what: str, again: str, patience_seconds: float) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM (a batch system's time limit) and a closed terminal into one line.

    Snakemake, stages, kernels and their workers end at once, or once Snakemake has cancelled the
    jobs that it sent to a cluster; what they have done stays.
    """

    def stop(number: int, frame: object) -> None:
        # now: when Snakemake has ended, its stages are nobody's children
        kill_children(patience_seconds)
        raise RunError(
            f"{what} was stopped by {signal.Signals(number).name}; {again} goes on where it was"
        )

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup stays what it is
            signal.signal(one, stop)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _snakemake(study: Study, profile: Path | None) -> list[str]:
    """The command that runs the Snakefile, here or where a profile says.

    Here it has all cores, and a GPU for each training that runs; its greedy scheduler needs no
    solver to start. Snakemake's own lock is left out because a killed run would leave it locked;
    ours ends with the process.
    """
    cards = cards_here() if study.compute.device != "cpu" else []
    here = ["--cores", str(cores_here()), "--scheduler", "greedy", "--latency-wait", "2"]
    here += ["--resources", f"accelerator={len(cards)}"] if cards else []
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--snakefile", "Snakefile", "--config", f"study={study.name}"),
        *("--nolock", "--rerun-incomplete", "--quiet", "host"),
        *(here if profile is None else ["--profile", str(profile.resolve())]),
    ]


@contextmanager
def _only_run(study: Study) -> Iterator[int]:
    """Hold the study for this process and its Snakemake; yields the lock's file descriptor.

    The system gives the study free when both have ended, however they do; a run that was killed
    takes a second or two to wind up, and is waited for.
    """
    with (study.results / ".lock").open("w") as lock:
        for _ in range(20):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.5)
        else:
            raise RunError(f"study {study.name} is already being run by another process")
        yield lock.fileno()


def _what_failed(what: str, log: Path) -> str:
    """A line for each notebook or job that failed: why, and where its log is.

    Snakemake's log says it, or those of the cluster's jobs that it names.
    """
    text = log.read_text()
    jobs = [Path(name) for name in re.findall(r"log: (.+) \(check log", text)]
    failed: list[str] = []
    for path in (log, *filter(Path.is_file, dict.fromkeys(jobs))):
        said = path.read_text()
        told = re.findall(r"^\s*wmh: ((?:notebook|people) .* failed: .*\S)", said, re.MULTILINE)
        failed += [line if "Log: " in line else f"{line}. Log: {path}" for line in told]
        ended = re.search(r"[^*\n]* CANCELLED AT [^*\n]*|.* oom_kill event", said)  # or time was up
        if ended and not told:
            failed.append(f"{what} failed: {ended[0].strip()}. Log: {path}")
    if failed:
        return "\n".join(dict.fromkeys(failed))
    lines = [line.strip(": ") for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "Exception" in line]
    reason = (named or lines[-1:] or ["no reason given"])[0]
    return f"{what} failed: {reason}. Log: {os.path.relpath(log)}"
