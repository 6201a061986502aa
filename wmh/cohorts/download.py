"""Files fetched from elsewhere: what stands under its name is whole, and what was announced.

A file is written to ``.NAME.part`` beside its place, checked (size, checksum, content) and only
then renamed. A cut goes on from the bytes already here, in the same run or the next. Nothing is
written outside the destination, whatever a list of files says.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from wmh.cohorts.download_source import (
    Absent,
    DownloadError,
    Patience,
    Trouble,
    is_web_address,
    opened,
)

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: where it is, where it goes, and how to know that it is the right one.

    ``path`` is relative to the destination, with forward slashes; ``url`` an http(s) address or the
    path of a local file; ``size`` in bytes; ``checksum`` as ``"sha256:..."`` (any hashlib name, or
    ``gitblob``: git's id of a file of that content).
    ``check`` raises ValueError for content that is not right. ``optional``: its absence at the
    source is reported, not raised.
    """

    path: str
    url: str
    size: int | None = None
    checksum: str | None = None
    check: Callable[[Path], None] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Fetched:
    """Paths of the files that were fetched now, were there already, or are absent at the source."""

    new: tuple[Path, ...]
    kept: tuple[Path, ...]
    absent: tuple[Path, ...]


class _Stopped(Exception):
    """Another file has ended the whole run."""


def fetch(
    files: list[RemoteFile],
    destination: Path | str,
    title: str = "fetching",
    workers: int = 4,
    patience: Patience | None = None,
) -> Fetched:
    """Fetch files into a folder, several at a time, and return which are new, kept and absent.

    Files that are there and right are kept. Raises :class:`DownloadError` when any could not be had
    (after trying all of them), when a path would leave the folder, and, at once, when the disk is
    full. Whatever arrived is kept, and a second call goes on from there.
    """
    destination, patience = Path(destination), patience or Patience()
    targets = [place_below(destination, file.path) for file in files]
    _raise_on_clashes(targets)
    _raise_without_room(destination, files, targets)
    run = _Run(patience, _Progress(title, sum(file.size or 0 for file in files)))
    with ThreadPoolExecutor(workers) as pool, run.progress:
        try:
            jobs = [pool.submit(run.take, *pair) for pair in zip(files, targets, strict=True)]
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:  # after a full disk or Ctrl-C, the others stop at their next piece
            run.stopped.set()
            pool.shutdown(cancel_futures=True)
    for job in jobs:
        if not job.cancelled() and (error := job.exception()) and not isinstance(error, _Stopped):
            raise error
    if run.failures:
        shown = "\n  ".join(run.failures[:5] + ["..."] * (len(run.failures) > 5))
        raise DownloadError(
            f"{len(run.failures)} of {len(files)} files could not be fetched:\n  {shown}\n"
            "What arrived is kept; run the command again to go on from there"
        )
    states = [job.result() for job in jobs]
    return Fetched(
        *(
            tuple(t for t, state in zip(targets, states, strict=True) if state == wanted)
            for wanted in ("new", "kept", "absent")
        )
    )


def place_below(folder: Path, path: str) -> Path:
    """The place of a relative path below a folder.

    Raises :class:`DownloadError` for a path that is absolute, climbs out (``..``, a link that leads
    elsewhere), or holds a name that some file system cannot store (a backslash, a colon, a control
    character, a trailing dot or space).
    """
    parts = PurePosixPath(path).parts
    storable = all(
        part.isprintable() and not set(part) & set('\\:*?"<>|') and part == part.rstrip(". ")
        for part in parts
    )
    if not parts or path.startswith("/") or ".." in parts or not storable:
        raise DownloadError(
            f"{path!r}: not a place below {folder}. Nothing was written; the list of files that "
            "names it is not to be trusted"
        )
    target = folder.joinpath(*parts)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise DownloadError(
            f"{target}: a link leads out of {folder}. Remove it, or choose another destination"
        )
    return target


def checksum_of(path: Path, algorithm: str) -> str:
    """``"algorithm:hexdigest"`` of a file."""
    size = path.stat().st_size
    kind = partial(hashlib.sha1, b"blob %d\0" % size) if algorithm == "gitblob" else algorithm
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, kind).hexdigest()}"


class _Run:
    """What the files of one call share: patience, progress, and the word to stop."""

    def __init__(self, patience: Patience, progress: _Progress):
        self.patience, self.progress = patience, progress
        self.stopped = threading.Event()
        self.failures: list[str] = []

    def take(self, file: RemoteFile, target: Path) -> str:
        """Fetch one file; return "new", "kept" or "absent". Only a full disk (or a bug) raises."""
        try:
            if target.is_file() and _trouble_with(target, file) is None:
                self.progress.advance(file.size or target.stat().st_size)
                return "kept"
            self._fetch(file, target)
            return "new"
        except Absent:
            if file.optional:
                return "absent"
            self.failures.append(f"{file.url}: not there. The source may have moved or changed")
        except DownloadError as error:
            self.failures.append(str(error))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise DownloadError(
                f"{target}: the disk is full. Free some space, or choose another destination, and "
                "run the command again; what arrived is kept"
            ) from error
        return "failed"

    def _fetch(self, file: RemoteFile, target: Path) -> None:
        part = target.with_name(f".{target.name}.part")
        if part.is_symlink():  # it could lead out of the destination
            part.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        attempts = self.patience.attempts if is_web_address(file.url) else 1
        failures, farthest, counted = 0, _size(part), 0
        while True:
            if self.stopped.is_set():
                raise _Stopped
            try:
                for size in self._append(file, part):
                    self.progress.advance(size - counted)
                    counted = size
                if file.size is not None and counted < file.size:
                    raise Trouble(f"only {counted} bytes came, {file.size} were announced")
                if trouble := _trouble_with(part, file):
                    part.unlink()
                    raise Trouble(trouble)
                part.replace(target)
                return
            except Trouble as trouble:
                news = _size(part) - farthest
                failures = 0 if news > self.patience.slowest else failures + 1
                farthest = max(farthest, _size(part))
                if failures >= attempts:
                    raise DownloadError(f"{file.url}: {trouble} (attempt {failures})") from trouble
                pause = max(trouble.wait, self.patience.first_wait * 2 ** max(failures - 1, 0))
                if self.stopped.wait(min(pause, self.patience.longest_wait)):
                    raise _Stopped from trouble

    def _append(self, file: RemoteFile, part: Path) -> Iterator[int]:
        """Bring ``part`` to its full length, yielding its length in bytes after each piece."""
        start = _size(part)
        if file.size is not None and start >= file.size:
            if start == file.size and part.exists():
                yield start
                return
            start = 0
        with (
            opened(file.url, start, self.patience) as (offset, pieces),
            part.open("r+b" if offset else "wb") as output,
        ):
            output.seek(offset)
            output.truncate()
            yield offset
            since, mark = time.monotonic(), offset
            for piece in pieces:
                if self.stopped.is_set():
                    raise _Stopped
                output.write(piece)
                here = output.tell()
                yield here
                if file.size is not None and here > file.size:
                    return  # longer than announced: the check that follows says so
                if (elapsed := time.monotonic() - since) > self.patience.timeout:
                    if here - mark < self.patience.slowest * elapsed:
                        raise Trouble(f"only {(here - mark) / elapsed:.0f} bytes a second")
                    since, mark = time.monotonic(), here


class _Progress:
    """A bar that knows the bytes and the time that remain."""

    def __init__(self, title: str, total: int):
        self._lock = threading.Lock()
        self._bar = tqdm(total=total or None, desc=title, unit="B", unit_scale=True, leave=False)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, size: int) -> None:
        with self._lock:
            self._bar.update(size)
            if self._bar.total:
                left = tqdm.format_sizeof(max(self._bar.total - self._bar.n, 0), "B")
                self._bar.set_postfix_str(f"{left} left", refresh=False)


def _trouble_with(path: Path, file: RemoteFile) -> str | None:
    """What is wrong with a file that should be whole; None when it is as announced."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes came, {file.size} were announced"
    if file.checksum is not None:
        found = checksum_of(path, file.checksum.partition(":")[0])
        if found != file.checksum:
            return f"its checksum is {found}, not {file.checksum}"
    if file.check is not None:
        try:
            file.check(path)
        except ValueError as error:
            return str(error)
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _raise_on_clashes(targets: list[Path]) -> None:
    """No two files may share a place, not even on a file system that ignores case."""
    seen: set[str] = set()
    for target in targets:
        if (name := str(target).casefold()) in seen:
            raise DownloadError(f"{target}: listed twice. The list of files is not to be trusted")
        seen.add(name)


def _raise_without_room(destination: Path, files: list[RemoteFile], targets: list[Path]) -> None:
    there = next(
        folder for folder in (destination, *destination.resolve().parents) if folder.exists()
    )
    needed = sum(
        file.size or 0 for file, target in zip(files, targets, strict=True) if not target.exists()
    )
    free = shutil.disk_usage(there).free
    if needed > free:
        needed_gb, free_gb = needed / 1e9, free / 1e9
        raise DownloadError(
            f"{destination}: {needed_gb:.1f} GB are to come and {free_gb:.1f} GB are free. "
            "Free some space, or choose another destination"
        )
