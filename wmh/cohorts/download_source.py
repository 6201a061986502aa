"""A file at its source: an http(s) address or a local path, opened from any byte on.

Every way in which a server can fail becomes one of three: trouble that may pass, a file that is not
there, or an error that no second attempt will cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

CHUNK = 1 << 16
PASSING_TROUBLE = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that may be different a moment later."""


class DownloadError(ValueError):
    """A file that could not be had. The message names it, the cause and the remedy."""


@dataclass(frozen=True)
class Patience:
    """How long trouble is borne; times in seconds, speed in bytes a second."""

    attempts: int = 6
    """Attempts in a row that bring almost nothing before a file is given up."""
    first_wait: float = 1.0
    longest_wait: float = 60.0
    timeout: float = 30.0
    slowest: float = 2000.0
    """A connection slower than this for ``timeout`` is cut and taken up again."""


class Trouble(Exception):
    """What may pass: a cut, a 503, a wrong checksum. ``wait`` is the server's wish, in seconds."""

    def __init__(self, cause: str, wait: float = 0.0):
        super().__init__(cause)
        self.wait = wait


class Absent(Exception):
    """The source does not have the file."""


@contextmanager
def opened(source: str, start: int, patience: Patience) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Open an http(s) address or a local file from a byte on; the byte it really starts at."""
    if not is_web_address(source):
        if not Path(source).is_file():
            raise Absent
        with Path(source).open("rb") as file:
            file.seek(start)
            yield start, iter(lambda: file.read(CHUNK), b"")
        return
    wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with requests.get(source, headers=wanted, stream=True, timeout=patience.timeout) as answer:
            yield _offset(answer, start), _pieces(answer)
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise DownloadError(f"{source}: leads to no http address ({error})") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Trouble(f"the connection failed ({type(error).__name__})") from error


def is_web_address(source: str) -> bool:
    """Whether a source is an http(s) address; anything else is a local path."""
    return urlsplit(source).scheme in ("http", "https")


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """The body as it arrives, undecoded; empty for a range that starts at the end of the file."""
    if answer.status_code == 416:
        return
    while piece := answer.raw.read1(CHUNK, decode_content=False):
        yield piece


def _offset(answer: requests.Response, start: int) -> int:
    """The byte at which an answer's body starts; raises for an answer that holds no file."""
    status = answer.status_code
    if status in (404, 410):
        raise Absent
    if status in PASSING_TROUBLE:
        wish = answer.headers.get("Retry-After", "")
        raise Trouble(f"the server answers {status}", wait=float(wish) if wish.isdigit() else 0.0)
    if start and status == 416:
        return start
    if start and status == 206:
        given = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if given is None or int(given[1]) > start:
            raise Trouble("the server sends another part than was asked for")
        return int(given[1])
    if status != 200:
        raise DownloadError(f"{answer.url}: the server answers {status} {answer.reason}")
    return 0
