"""Running a whole study: Snakemake decides which stages run; the stages print their progress."""

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
"""Time that Snakemake gets to cancel a cluster's jobs when the command is stopped."""


class RunError(RuntimeError):
    """A run that failed. The message names the notebook or job, and its log."""


def run_study(study: Study, profile: Path | None = None) -> None:
    """Bring a study's results up to date: notebooks, tables, figures and pages.

    It runs on this machine, or where a Snakemake ``profile`` says, such as on a cluster. Results
    that are up to date are kept, and an interrupted run continues. Raises :class:`RunError` when a
    notebook fails or another process runs the study, and :class:`StudyError` when something that
    the study needs is missing.
    """
    raise_unless_profile(profile)
    raise_unless_ready(study, gpu=profile is None)
    if study.participants is not None:
        from wmh.analysis.participants import raise_without_own_columns  # takes a second

        raise_without_own_columns(study)
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
    done = f"{len(ran)} stages run" if ran else "all results were up to date"
    print(f"Study {study.name}: {done}, {time.time() - began:.0f} s. {index.relative_to(root)}")


def raise_unless_profile(profile: Path | None) -> None:
    """Raise :class:`RunError` for a folder that is not a Snakemake profile."""
    if profile is not None and not (profile / "config.yaml").is_file():
        raise RunError(
            f"{profile}: not a Snakemake profile. Give a folder that holds a config.yaml, such as "
            "profiles/slurm"
        )


def run_snakemake(
    what: str, again: str, command: list[str], folder: Path, log: Path, lock: int, **variables: str
) -> None:
    """Run Snakemake in a folder, with its output in a log and further environment variables.

    Snakemake also holds the lock (a file descriptor), which is therefore free only when both
    processes have ended. Raises :class:`RunError`, which says why ``what`` failed; if it was
    stopped, the error names ``again``, the command that continues it.
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
            process_group=0,  # so that a Ctrl-C reaches Snakemake only once, through this process
            # a shell makes `wmh ... &` ignore Ctrl-C, and Snakemake would inherit this
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ).returncode
    if code != 0:
        raise RunError(_what_failed(what, log))


@contextmanager
def _stops_with_all_it_started(what: str, again: str, patience_seconds: float) -> Iterator[None]:
    """End all processes on Ctrl-C, SIGTERM (a batch system's time limit) or a closed terminal.

    Snakemake, stages, kernels and their workers end at once; on a cluster, Snakemake first cancels
    its jobs. Finished results are kept, and the error is one line.
    """

    def stop(number: int, frame: object) -> None:
        # end the children first: once Snakemake has ended, its stages could not be found any more
        kill_children(patience_seconds)
        raise RunError(
            f"{what} was stopped by {signal.Signals(number).name}; {again} continues where it "
            "stopped"
        )

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:  # a signal ignored by nohup stays ignored
            signal.signal(one, stop)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _snakemake(study: Study, profile: Path | None) -> list[str]:
    """The command that runs the Snakefile, on this machine or where a profile says.

    On this machine it gets all cores, and one GPU per running training. The greedy scheduler is
    used because it needs no solver. Snakemake's own lock is switched off, because a killed run
    would leave it locked; the lock of :func:`_only_run` ends with the process.
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
    """Hold the study's lock for this process and its Snakemake; yields its file descriptor.

    The system frees the lock when both have ended, in whatever way. A killed run needs a second or
    two to end, so the lock is tried for ten seconds.
    """
    with (study.results / ".lock").open("w") as lock:
        for _ in range(20):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.5)
        else:
            raise RunError(
                f"study {study.name} is already being run by another process. Wait until that one "
                "has ended, or stop it"
            )
        yield lock.fileno()


def _what_failed(what: str, log: Path) -> str:
    """One line for each notebook or job that failed: the reason, and the path of its log.

    They are found in Snakemake's log, and in the logs of a cluster's jobs that it names.
    """
    text = log.read_text()
    jobs = [Path(name) for name in re.findall(r"log: (.+) \(check log", text)]
    failed: list[str] = []
    for path in (log, *filter(Path.is_file, dict.fromkeys(jobs))):
        said = path.read_text()
        told = re.findall(r"^\s*wmh: ((?:notebook|people) .* failed: .*\S)", said, re.MULTILINE)
        failed += [line if "Log: " in line else f"{line}. Log: {path}" for line in told]
        # SLURM's lines for a job that was cancelled, ran out of time or out of memory
        ended = re.search(r"[^*\n]* CANCELLED AT [^*\n]*|.* oom_kill event", said)
        if ended and not told:
            failed.append(f"{what} failed: {ended[0].strip()}. Log: {path}")
    if failed:
        return "\n".join(dict.fromkeys(failed))
    lines = [line.strip(": ") for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line or "Exception" in line]
    reason = (named or lines[-1:] or ["no reason given"])[0]
    return f"{what} failed: {reason}. Log: {os.path.relpath(log)}"
