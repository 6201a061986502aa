"""Files: written completely or not at all, and compared by their content."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # half a second to import, in processes that write no table
    import pandas as pd


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, with the same ending, that replaces ``path`` in the end.

    It does so only if the block ends without an error. Otherwise ``path`` stays as it was and the
    temporary file is removed. Missing folders are made.

    >>> with complete(path) as part:  # doctest: +SKIP
    ...     part.write_text(content)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def all_or_nothing(folder: Path, name: str = "unfinished") -> Iterator[Path]:
    """A temporary folder; when the block ends, its files move to ``folder`` in the order written.

    After an error none of them remains. Files that a killed process left under the same ``name``
    are removed first. A second process that uses the same name waits until the first is done.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    fresh = folder / f".{name}"
    lock = _locked(fresh)
    try:
        yield fresh
        files = (path for path in fresh.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            target = folder / path.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    finally:
        shutil.rmtree(fresh)
        os.close(lock)
        for place in new:
            with suppress(OSError):  # not empty, or gone
                place.rmdir()


def _locked(fresh: Path) -> int:
    """Make an empty folder, locked for this process; return the descriptor that holds the lock."""
    while True:
        fresh.mkdir(parents=True, exist_ok=True)
        lock = os.open(fresh, os.O_RDONLY)
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if fresh.exists() and os.path.samestat(os.fstat(lock), fresh.stat()):
            break
        os.close(lock)  # the process that held the lock has removed the folder: try again
    for left in fresh.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return lock


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV, without its index."""
    with complete(path) as part:
        table.to_csv(part, index=False)
    return path


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(files: Iterable[Path], *words: str) -> str:
    """Hexadecimal SHA-256 of the contents of files, in the order of their names, and of words.

    The folders of the files do not count.
    """
    digest = hashlib.sha256("\0".join(words).encode())
    for path in sorted(files, key=lambda path: path.name):
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()
