"""Kill a command at random moments, let it end, and look at what it left: benchmarks/soak.md.

    PYTHONPATH=. python benchmarks/soak.py run smoke
    PYTHONPATH=. python benchmarks/soak.py predict FOLDER
    PYTHONPATH=. python benchmarks/soak.py fetch MIRROR

FOLDER holds people as `wmh predict` takes them, MIRROR the files of `wmh fetch heads`.

A round begins with nothing, has the command killed by SIGKILL, SIGTERM and Ctrl-C in a random order
at random moments, and then runs it to its end. It is good when every file that counts has the bytes
of a run that nobody disturbed (but for the seconds that trainings and registrations took), no
process outlives its command, and nothing stray lies about.
Rounds are kept in `results/soak/`, so that the soak itself may be stopped and goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from wmh.files import sha256_of
from wmh.study import load_study, project_root

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MARK = "WMH_SOAK"
"""Environment variable that all processes of this soak inherit: its own process id."""

BELONG = (".lock", ".bidsignore")

WIND_UP_SECONDS = 20
BYTES_A_SECOND = 2e6


@dataclass
class Soaked:
    """A command, the folders that it makes, and which of the files there count."""

    command: list[str]
    makes: list[Path]
    counts: tuple[str, ...]

    def clear(self) -> None:
        for folder in self.makes:
            shutil.rmtree(folder, ignore_errors=True)

    def files(self) -> dict[str, str]:
        """Hashes of the files that count, by their place."""
        found = sorted(
            path for folder in self.makes for kind in self.counts for path in folder.rglob(kind)
        )
        return {str(path.relative_to(project_root())): hash_of(path) for path in found}

    def stray(self) -> list[str]:
        """Files under a temporary name: hidden ones, but for those that belong to what is made."""
        found = (path for folder in self.makes for path in folder.rglob("*") if path.is_file())
        return [
            str(path)
            for path in found
            if ".part" in path.name or (path.name[0] == "." and path.name not in BELONG)
        ]


def hash_of(path: Path) -> str:
    """Of a file's bytes; of a table's without the column of the seconds that its rows took."""
    if path.suffix != ".csv":
        return sha256_of(path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    text = table.drop(columns="seconds", errors="ignore").to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def soaked(given: argparse.Namespace) -> Iterator[Soaked]:
    """The command that is asked for, with what it needs while it runs."""
    root = project_root()
    out = root / "results" / "soak" / given.what
    if given.what == "run":
        study = load_study(given.of)
        yield Soaked(
            ["run", given.of], [study.results, study.figures, study.cohort_folder], ("*.csv",)
        )
    elif given.what == "predict":
        yield Soaked(
            ["predict", given.of, "--out", str(out)], [out], ("*.nii.gz", "*.csv", "*.tsv")
        )
    else:
        with slow_server(Path(given.of)) as address:
            command = ["fetch", "heads", "--dest", str(out), "--mirror", address]
            yield Soaked(command, [out], ("*.nii.gz",))


@contextlib.contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    """A server on this machine that takes its time, so that a download can be cut."""

    class Slow(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile) -> None:
            with contextlib.suppress(ConnectionError):  # who was downloading is gone
                while piece := source.read(65536):
                    outputfile.write(piece)
                    time.sleep(len(piece) / BYTES_A_SECOND)

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Slow, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def start(command: list[str]) -> subprocess.Popen:
    """Start ``wmh`` with these arguments, its processes marked, its output left aside."""
    return subprocess.Popen(
        [sys.executable, "-c", "from wmh.cli import main; main()", *command],
        cwd=project_root(),
        env=os.environ | {MARK: str(os.getpid())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def marked() -> list[str]:
    """Command lines of all processes that a round started and that still live."""
    alive = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.environ().get(MARK) == str(os.getpid())
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                alive.append(" ".join(process.cmdline())[:120])
    return alive


def outlived() -> list[str]:
    """What still lives when the command has ended and had its time to wind up."""
    until = time.monotonic() + WIND_UP_SECONDS
    while (alive := marked()) and time.monotonic() < until:
        time.sleep(0.5)
    return alive


def disturbed_round(soaked: Soaked, number: int, seconds: float, expected: dict) -> dict:
    """One round. ``seconds`` is how long an undisturbed run takes."""
    draw = random.Random(number)
    soaked.clear()
    cuts, left = [], []
    for kind in draw.sample(SIGNALS, len(SIGNALS)):
        process, after = start(soaked.command), draw.uniform(0.02, 0.3) * seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        if process.poll() is None:
            process.send_signal(kind)
            cuts.append(f"{kind.name} after {after:.0f} s")
        process.wait()
        left += outlived()
    code = start(soaked.command).wait()
    found = soaked.files()
    differing = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    left += outlived()
    good = code == 0 and not (differing or left or soaked.stray())
    return {
        "round": number,
        "good": good,
        "cuts": cuts,
        "exit": code,
        "differing": differing,
        "outlived": left,
        "stray": soaked.stray(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a command at random moments.")
    parser.add_argument("what", choices=("run", "predict", "fetch"))
    parser.add_argument("of", help="study, folder of people, or mirror")
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell put it behind
    kept = project_root() / "results" / "soak" / f"{given.what}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with soaked(given) as what:
        rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
        if not rows:
            what.clear()
            began = time.monotonic()
            if code := start(what.command).wait():
                sys.exit(f"wmh {' '.join(what.command)} ends with {code} even when left alone")
            if not what.files():
                sys.exit(f"wmh {' '.join(what.command)} leaves none of {', '.join(what.counts)}")
            rows = [{"seconds": time.monotonic() - began, "files": what.files()}]
            kept.write_text(json.dumps(rows[0]) + "\n")
        for number in range(len(rows), given.rounds + 1):
            row = disturbed_round(what, number, rows[0]["seconds"], rows[0]["files"])
            rows.append(row)
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    good = sum(row["good"] for row in rows[1:])
    print(
        f"{given.what}: {good} of {len(rows) - 1} rounds good, {len(rows[0]['files'])} files each"
    )


if __name__ == "__main__":
    main()
