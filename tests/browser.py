"""A page in headless Chromium, as on a phone or a desk: what goes wrong there, and what it shows.

The browser is the one that ``WMH_CHROMIUM`` names, or Chromium from the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
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

TRAP = """<head><script>
window.trapped = [];
addEventListener("error", (e) => trapped.push(String(e.message || e.target.outerHTML)), true);
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
<script>onmessage = (e) => {{ document.title = e.data; }};</script>
<iframe src="{address}" style="border:0;width:{width}px;height:900px"></iframe>"""


def examine(page: Path, folder: Path, width: int, script: str = "return null;") -> dict:
    """Open a page ``width`` pixels wide and say what was found there.

    ``trapped`` are errors and warnings, ``blocks`` what ``accessibility.js`` finds, ``unloaded``
    images that did not load, ``width`` the width its content takes, ``probed`` what ``script``
    returns. The page is opened as a file and with no network.
    """
    checks = (Path(__file__).parent / "accessibility.js").read_text()
    probe = PROBE.format(checks=checks, script=script)
    html = page.read_text().replace("<head>", TRAP, 1)
    head, _, tail = html.rpartition("</body>")
    inner, outer = folder / "inner.html", folder / "outer.html"
    inner.write_text(head + probe + tail)
    outer.write_text(FRAME.format(address=inner.as_uri(), width=width))
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, 500)},900"]
    command += ["--virtual-time-budget=8000", "--dump-dom", outer.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    answer = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert answer, f"the page did not answer: {done.stderr[-2000:]}"
    found = json.loads(_plain(answer[1]))
    found["trapped"] += re.findall(r"ERROR:CONSOLE.*", done.stderr)
    return found


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


def _plain(text: str) -> str:
    for code, sign in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\N{NO-BREAK SPACE}")):
        text = text.replace(code, sign)
    return text.replace("&amp;", "&")
