"""Watching over a running notebook: its memory, its progress, and whether anyone still wants it."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

DRIVER = "WMH_DRIVER"
"""Environment variable: ``host:process id`` of the run that a stage belongs to."""

LOOK_EVERY_SECONDS, SAY_EVERY_SECONDS = 1.0, 20.0


class Watch(threading.Thread):
    """Samples the memory of this process's children, and ends them when the driver is gone.

    Snakemake's ``benchmark`` would look each 30 seconds only, and not where a notebook runs alone.

    ``kill -9`` of the driver cannot be caught there, so each stage looks for itself: no kernel goes
    on computing for a run that has ended.
    """

    def __init__(self, say: Callable[[], None]):
        super().__init__(daemon=True)
        self.say = say
        self.peak_mb = 0.0
        self._ended = threading.Event()
        self._driver = driver_here()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Look, every second, until the stage has ended."""
        said = time.monotonic()
        while not self._ended.wait(LOOK_EVERY_SECONDS):
            if self._driver is not None and not is_running(self._driver):
                kill_children()
                os._exit(1)
            self.peak_mb = max(self.peak_mb, memory_of_children_mb())
            if time.monotonic() - said >= SAY_EVERY_SECONDS:
                self.say()
                said = time.monotonic()


class Progress(io.TextIOBase):
    """The output of a kernel: written to the log, with the last line kept for the terminal.

    Of a progress bar, which draws itself again after each carriage return, the log gets the final
    state only.
    """

    def __init__(self, log: Path):
        self.last = ""
        self._line = ""
        self._log = log.open("a", encoding="utf-8")

    def write(self, text: str) -> int:
        """Take a piece of output, which may end in the middle of a line."""
        *complete, self._line = (self._line + text).split("\n")
        for line in complete:
            self._log.write(_as_seen(line) + "\n")
        self._line = self._line.rpartition("\r")[2] or _as_seen(self._line)
        self._log.flush()
        shown = [line for line in (*map(_as_seen, complete), self._line) if line.strip()]
        self.last = shown[-1].strip() if shown else self.last
        return len(text)

    def close(self) -> None:
        """Write what is left and close the log."""
        self._log.write(self._line)
        self._log.close()
        super().close()


def _as_seen(line: str) -> str:
    """The part that a terminal shows of a line that was drawn over again after carriage returns."""
    return next((part for part in reversed(line.split("\r")) if part), "")


def name_driver() -> str:
    """This process, as the driver its stages look for."""
    return f"{socket.gethostname()}:{os.getpid()}"


def driver_here() -> int | None:
    """Process id of the driver when it runs on this machine; stages on a cluster have none here."""
    host, _, process = os.environ.get(DRIVER, "").rpartition(":")
    return int(process) if process.isdigit() and host == socket.gethostname() else None


def is_running(process: int) -> bool:
    """True for a process that lives; one that ended but was not waited for does not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_children(patience_seconds: float = 0) -> None:
    """End all processes below this one.

    Those just below may be given time to end by themselves after a Ctrl-C.
    """
    if patience_seconds:
        below = psutil.Process().children()
        for child in below:
            child.send_signal(signal.SIGINT)
        psutil.wait_procs(below, patience_seconds)
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def memory_of_children_mb() -> float:
    """Memory of all processes below this one in MB; shared pages count once where that is known."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            memory = child.memory_full_info()
        except psutil.Error:  # it has just ended
            continue
        total += getattr(memory, "pss", memory.rss)
    return total / 2**20
