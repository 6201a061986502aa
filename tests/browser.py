"""A page in headless Chromium, as on a phone or a desk: what goes wrong there, and what it shows.

The browser is the one that ``WMH_CHROMIUM`` names, or Chromium from the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("WMH_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it, or name it in WMH_CHROMIUM"
)

PHONE, DESK = 375, 1200
"""Widths in CSS pixels."""

PATIENCE = 150
"""Seconds of real time that a page may take to answer, on a machine busy with other things."""

TRAP = """<head><script>
window.trapped = [];
const trapSaid = (e) => String(e.message || e.target.outerHTML).slice(0, 200);
addEventListener("error", (e) => trapped.push(trapSaid(e)), true);
addEventListener("unhandledrejection", (e) => trapped.push(String(e.reason)));
console.error = console.warn = (...words) => trapped.push(words.join(" "));
</script>"""

PROBE = """<script>{checks}
addEventListener("load", async () => {{
  for (const image of document.images) image.loading = "eager";
  await Promise.allSettled([...document.images].filter((i) => i.src).map((i) => i.decode()));
  const found = {{
    blocks: stumblingBlocks(),
    unloaded: [...document.images].filter((i) => i.src && !i.naturalWidth).map((i) => i.alt),
    width: document.documentElement.scrollWidth,
    probed: await (async () => {{ {script} }})(),
    trapped,
  }};
  parent.postMessage(JSON.stringify(found), "*");
}});
</script></body>"""

FRAME = """<!doctype html><body style="margin:0">
<script>
onmessage = (e) => fetch("{listener}", {{ method: "POST", mode: "no-cors", body: e.data }});
</script>
<iframe src="{address}" style="border:0;width:{width}px;height:900px"></iframe>"""


def examine(page: Path, folder: Path, width: int, script: str = "return null;") -> dict:
    """Open a page ``width`` pixels wide and say what was found there.

    ``trapped`` are errors and warnings, ``blocks`` what ``accessibility.js`` finds, ``unloaded``
    images that did not load, ``width`` the width its content takes, ``probed`` what ``script``
    returns. The page is opened as a file, and the browser reaches nothing but the listener that
    takes the answer. Time is real: with Chromium's virtual time a page is over before threads of
    their own have decoded its pictures.
    """
    checks = (Path(__file__).parent / "accessibility.js").read_text()
    probe = PROBE.format(checks=checks, script=script)
    html = page.read_text().replace("<head>", TRAP, 1)
    head, _, tail = html.rpartition("</body>")
    inner, outer = folder / "inner.html", folder / "outer.html"
    inner.write_text(head + probe + tail)
    with Listener() as listener:
        frame = FRAME.format(address=inner.as_uri(), width=width, listener=listener.address)
        outer.write_text(frame)
        log = folder / "browser.log"
        with _browser(outer, folder / "profile", width, log):
            answer = listener.wait(PATIENCE)
    said = log.read_text(errors="replace")
    assert answer, f"the page did not answer in {PATIENCE} s: {said[-2000:]}"
    found = json.loads(answer)
    found["trapped"] += re.findall(r"ERROR:CONSOLE.*", said)
    return found


class Listener(HTTPServer):
    """Takes one answer from a page on this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.address = f"http://127.0.0.1:{self.server_port}/"
        self.answer = ""

    def wait(self, seconds: float) -> str:
        """The answer, or nothing when none comes in time."""
        until = time.monotonic() + seconds
        while not self.answer and (left := until - time.monotonic()) > 0:
            self.timeout = left
            self.handle_request()
        return self.answer


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.answer = self.rfile.read(length).decode()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing: only answers matter."""


@contextmanager
def _browser(page: Path, profile: Path, width: int, log: Path) -> Iterator[None]:
    """Chromium with a page open, and no way to any other machine."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command += ["--enable-logging=stderr", f"--user-data-dir={profile}"]
    command += [f"--window-size={max(width, 500)},900", page.as_uri()]
    with log.open("wb") as said:
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        try:
            yield
        finally:
            browser.terminate()
            browser.wait(timeout=60)


def assert_sound(found: dict, width: int) -> None:
    """Nothing went wrong, all can be read, and nothing sticks out to the side."""
    assert found["trapped"] == []
    assert found["unloaded"] == []
    assert found["blocks"] == []
    assert found["width"] <= width


class Page(HTMLParser):
    """The tags of a page with their attributes, in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def assert_self_contained(html: str) -> None:
    """The page loads nothing that is not in it."""
    tags = Page(html)
    loaded = [a.get("src") or a.get("href") for a in tags.all("img", "script", "iframe", "image")]
    assert all(address is None or address.startswith("data:") for address in loaded)
    assert not tags.all("link")
    assert "@import" not in html
    assert not re.search(r"url\((?!data:)", html)
