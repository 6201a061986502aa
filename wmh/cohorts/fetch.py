"""Files fetched with pooch, several at a time; a file gets its name only once complete and checked.

A file that is there and correct is not fetched again, so that a second run continues the first.
Nothing is written outside the destination, whatever paths a list of files contains.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests
from tqdm.auto import tqdm

RETRIES = 8
"""Number of further tries after a failure on the web, with pauses of 1, 2, 3, ... s."""
from_web = pooch.HTTPDownloader(
    timeout=30,  # seconds of silence
    chunk_size=1 << 16,
    headers={"Accept-Encoding": "identity"},  # .gz files stay as they are
)


class DownloadError(ValueError):
    """A file that could not be fetched. The message names it, the cause and the remedy."""


class Unreachable(DownloadError):
    """A file whose server cannot be reached."""


class Absent(Exception):
    """The source does not have the file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: its source, its destination, and how to check its content.

    ``path`` is relative to the destination, with forward slashes; ``url`` is an http(s) address or
    the path of a local file; ``checksum`` is ``"sha256:..."`` (any hashlib name); ``size`` is in
    bytes. ``check`` raises ValueError for wrong content. If the source does not have an
    ``optional`` file, it is returned as absent and no error is raised.
    """

    path: str
    url: str
    checksum: str | None = None
    size: int = 0
    check: Callable[[Path], None] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Fetched:
    """Paths of files that are new, that were there already, and that the source does not have."""

    new: tuple[Path, ...]
    kept: tuple[Path, ...]
    absent: tuple[Path, ...]


def fetch(
    files: list[RemoteFile], destination: Path | str, title: str, workers: int = 4
) -> Fetched:
    """Fetch files into a folder, several at a time; return which are new, kept and absent.

    Raises :class:`DownloadError` when any file could not be fetched. All files are tried first,
    unless the server cannot be reached from the start. It is also raised, before anything is
    fetched, when a path leads out of the folder, two files have the same path, or the disk is too
    full.
    """
    destination = Path(destination)
    targets = [place_below(destination, file.path) for file in files]
    names = Counter(str(target).casefold() for target in targets)  # as some file systems see them
    if twice := [name for name, count in names.items() if count > 1]:
        raise DownloadError(
            f"{twice[0]}: listed twice. Nothing was written, because the list of files is wrong; "
            "use another source"
        )
    needed = sum(f.size for f, target in zip(files, targets, strict=True) if not target.exists())
    _raise_without_room(destination, needed)
    pooch.get_logger().setLevel("WARNING")
    stopped, arrived = threading.Event(), False
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_fetch_one, file, destination, stopped) for file in files]
        try:
            for job in tqdm(as_completed(jobs), title, len(jobs), leave=False, unit="file"):
                error = job.exception()
                if isinstance(error, Unreachable) and not arrived:
                    stopped.set()  # else each file would take a minute to fail
                elif error and not isinstance(error, DownloadError | CancelledError):
                    raise error
                arrived = arrived or (error is None and job.result() == "new")
        finally:  # after a full disk or Ctrl-C, no further file is begun
            stopped.set()
            pool.shutdown(cancel_futures=True)
    errors = [error for job in jobs if (error := job.exception())]
    if errors:
        failures = [str(error) for error in errors if isinstance(error, DownloadError)]
        shown = "\n  ".join(failures[:5] + ["..."] * (len(failures) > 5))
        raise DownloadError(
            f"{len(errors)} of {len(files)} files could not be fetched:\n  {shown}\n"
            "Fetched files are kept; run the command again to fetch the rest"
        )
    states = [job.result() for job in jobs]
    return Fetched(
        *(
            tuple(t for t, state in zip(targets, states, strict=True) if state == wanted)
            for wanted in ("new", "kept", "absent")
        )
    )


def place_below(folder: Path, path: str) -> Path:
    """The full path of a relative path below a folder.

    Raises :class:`DownloadError` for a path that is absolute, leads out of the folder (``..``, a
    link), or has a name that some file systems cannot store (a backslash, a colon, a control
    character, a trailing dot or space).
    """
    parts = PurePosixPath(path).parts
    storable = all(
        part.isprintable() and not set(part) & set('\\:*?"<>|') and part == part.rstrip(". ")
        for part in parts
    )
    if not parts or path.startswith("/") or ".." in parts or not storable:
        raise DownloadError(
            f"{path!r}: not a valid path below {folder}. Nothing was written, because the list of "
            "files is wrong; use another source"
        )
    target = folder.joinpath(*parts)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise DownloadError(
            f"{target}: a link leads out of {folder}. Remove it, or choose another destination"
        )
    return target


def is_web_address(source: str) -> bool:
    """True if a source is an http(s) address; anything else is a local path."""
    return urlsplit(source).scheme in ("http", "https")


def _raise_without_room(destination: Path, needed: int) -> None:
    """Raise :class:`DownloadError` where the disk has fewer free bytes than are needed."""
    folders = (destination, *destination.resolve().parents)
    free = shutil.disk_usage(next(folder for folder in folders if folder.exists())).free
    if needed > free:
        raise DownloadError(
            f"{destination}: {needed / 1e9:.1f} GB are needed, but {free / 1e9:.1f} GB are free. "
            "Free some space, or choose another destination"
        )


def _fetch_one(file: RemoteFile, destination: Path, stopped: threading.Event) -> str:
    """Fetch a file unless it is there and correct; return "new", "kept" or "absent"."""
    target, state = destination / file.path, "kept"

    def download(url: str, part: str, _: pooch.Pooch) -> None:
        nonlocal state
        state = "new"
        if stopped.is_set():
            raise CancelledError
        Path(part).unlink()  # pooch made it readable only to its owner
        if is_web_address(url):
            try:
                from_web(url, part, None)
            except requests.HTTPError as error:
                if error.response.status_code in (404, 410):
                    raise Absent from error
                raise
        elif Path(url).is_file():
            shutil.copyfile(url, part)
        else:
            raise Absent
        if file.check is not None:
            file.check(Path(part))

    store = pooch.create(
        destination,
        base_url="",
        registry={file.path: file.checksum},
        urls={file.path: file.url},
        retry_if_failed=RETRIES if is_web_address(file.url) else 0,
    )
    if file.check is not None and target.is_file():
        try:
            file.check(target)
        except ValueError:
            target.unlink()  # pooch itself would check only the checksum of an existing file
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        store.fetch(file.path, downloader=download)
        return state
    except requests.HTTPError as error:
        cause = f"the server answered {error.response.status_code} {error.response.reason}"
    except requests.RequestException as error:
        cause = f"no connection ({type(error).__name__}); check the network and the address"
        raise Unreachable(f"{file.url}: {cause}") from error
    except ValueError as error:
        cause = str(error)
    except Absent:
        if file.optional:
            return "absent"
        cause = "does not exist. The source may have moved or changed"
    raise DownloadError(f"{file.url}: {cause}")
