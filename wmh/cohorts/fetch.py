"""Files fetched with pooch, several at a time: what stands under its name is whole and right.

A file that is there and right is not fetched again, so that a second run goes on from the first.
Nothing is written outside the destination, whatever a list of files says.
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
"""After a failure on the web, with pauses of 1, 2, 3, ... s."""
from_web = pooch.HTTPDownloader(
    timeout=30,  # seconds of silence
    chunk_size=1 << 16,
    headers={"Accept-Encoding": "identity"},  # .gz files stay as they are
)


class DownloadError(ValueError):
    """A file that could not be had. The message names it, the cause and the remedy."""


class Unreachable(DownloadError):
    """A file whose server cannot be reached."""


class Absent(Exception):
    """The source does not have the file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: where it is, where it goes, and how to know that it is the right one.

    ``path`` is relative to the destination, with forward slashes; ``url`` an http(s) address or the
    path of a local file; ``checksum`` as ``"sha256:..."`` (any hashlib name); ``size`` in bytes.
    ``check`` raises ValueError for content that is not right. ``optional``: its absence at the
    source is reported, not raised.
    """

    path: str
    url: str
    checksum: str | None = None
    size: int = 0
    check: Callable[[Path], None] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Fetched:
    """Paths of the files that were fetched now, were there already, or are absent at the source."""

    new: tuple[Path, ...]
    kept: tuple[Path, ...]
    absent: tuple[Path, ...]


def fetch(
    files: list[RemoteFile], destination: Path | str, title: str, workers: int = 4
) -> Fetched:
    """Fetch files into a folder, several at a time, and return which are new, kept and absent.

    Raises :class:`DownloadError` when any could not be had (after trying all of them, unless their
    server cannot be reached from the start), and before anything is fetched when a path would leave
    the folder, two files would share a place, or the disk has too little room.
    """
    destination = Path(destination)
    targets = [place_below(destination, file.path) for file in files]
    names = Counter(str(target).casefold() for target in targets)  # as some file systems see them
    if twice := [name for name, count in names.items() if count > 1]:
        raise DownloadError(f"{twice[0]}: listed twice. The list of files is not to be trusted")
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
                    stopped.set()  # or each file would take its minute to fail
                elif error and not isinstance(error, DownloadError | CancelledError):
                    raise error
                arrived = arrived or (error is None and job.result() == "new")
        finally:  # after a full disk or Ctrl-C, no other file is begun
            stopped.set()
            pool.shutdown(cancel_futures=True)
    errors = [error for job in jobs if (error := job.exception())]
    if errors:
        failures = [str(error) for error in errors if isinstance(error, DownloadError)]
        shown = "\n  ".join(failures[:5] + ["..."] * (len(failures) > 5))
        raise DownloadError(
            f"{len(errors)} of {len(files)} files could not be fetched:\n  {shown}\n"
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


def is_web_address(source: str) -> bool:
    """True where a source is an http(s) address; anything else is a local path."""
    return urlsplit(source).scheme in ("http", "https")


def _raise_without_room(destination: Path, needed: int) -> None:
    """Raise :class:`DownloadError` where the disk has fewer free bytes than are needed."""
    folders = (destination, *destination.resolve().parents)
    free = shutil.disk_usage(next(folder for folder in folders if folder.exists())).free
    if needed > free:
        raise DownloadError(
            f"{destination}: {needed / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free. "
            "Free some space, or choose another destination"
        )


def _fetch_one(file: RemoteFile, destination: Path, stopped: threading.Event) -> str:
    """Fetch a file unless it is there and right; return "new", "kept" or "absent"."""
    target, state = destination / file.path, "kept"

    def download(url: str, part: str, _: pooch.Pooch) -> None:
        nonlocal state
        state = "new"
        if stopped.is_set():
            raise CancelledError
        Path(part).unlink()  # pooch made it readable to its owner alone
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
            target.unlink()  # of what is there, pooch looks at the checksum alone
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        store.fetch(file.path, downloader=download)
        return state
    except requests.HTTPError as error:
        cause = f"the server answers {error.response.status_code} {error.response.reason}"
    except requests.RequestException as error:
        cause = f"the connection failed ({type(error).__name__})"
        raise Unreachable(f"{file.url}: {cause}") from error
    except ValueError as error:
        cause = str(error)
    except Absent:
        if file.optional:
            return "absent"
        cause = "not there. The source may have moved or changed"
    raise DownloadError(f"{file.url}: {cause}")
