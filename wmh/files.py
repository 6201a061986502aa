"""Files: written completely or not at all, and compared by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
