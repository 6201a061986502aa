"""Watching a running notebook: its memory, its progress, and whether its run still exists."""

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
"""Environment variable with ``host:process id`` of the driver: the command that runs the study."""

LOOK_EVERY_SECONDS, SAY_EVERY_SECONDS = 1.0, 20.0


class Watch(threading.Thread):
    """Samples the memory of this process's children, and ends them when the driver has ended.

    Snakemake's ``benchmark`` would sample memory only every 30 seconds, and not at all for a
    notebook that runs without it. The driver cannot react to its own ``kill -9``. Therefore each
    stage checks whether the driver lives, so that no kernel computes for a run that has ended.
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
        """Check every second, until the stage has ended."""
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

    A progress bar overwrites itself after each carriage return; the log gets only its final state.
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
    """The part of a line that a terminal shows: the text after the last carriage return."""
    return next((part for part in reversed(line.split("\r")) if part), "")


def name_driver() -> str:
    """This process as the value of ``WMH_DRIVER`` for its stages."""
    return f"{socket.gethostname()}:{os.getpid()}"


def driver_here() -> int | None:
    """Process id of the driver if it runs on this machine; None, for instance, on a cluster."""
    host, _, process = os.environ.get(DRIVER, "").rpartition(":")
    return int(process) if process.isdigit() and host == socket.gethostname() else None


def is_running(process: int) -> bool:
    """True if a process is running; a zombie (ended, but not waited for) is not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_children(patience_seconds: float = 0) -> None:
    """End all processes that this one started, directly or indirectly.

    With ``patience_seconds``, direct children get a Ctrl-C first and so much time to end.
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
