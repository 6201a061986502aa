"""A server on this machine that behaves as badly as a test asks for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Page:
    """One file on the server and how it is served.

    ``statuses``: answers given before the first good one. ``cut_after``: bytes after which a
    connection is dropped, the first ``cuts`` times. ``drip``: seconds between single bytes.
    ``redirect``: where the file really is.
    """

    body: bytes
    statuses: list[int] = field(default_factory=list)
    cut_after: int | None = None
    cuts: int = 0
    drip: float = 0.0
    redirect: str | None = None
    announce_length: bool = True


class Loopback:
    """Pages by path; ``asked`` counts how often each was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def put(self, path: str, body: bytes, **behaviour: object) -> str:
        """Serve ``body`` at ``path``; the address to fetch it from."""
        self.pages[path] = Page(body, **behaviour)
        return self.url + path

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with loopback.lock:
                    loopback.at_once += 1
                    loopback.most_at_once = max(loopback.most_at_once, loopback.at_once)
                try:
                    with contextlib.suppress(ConnectionError):
                        loopback._answer(self)
                finally:
                    with loopback.lock:
                        loopback.at_once -= 1

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        with self.lock:
            self.asked[path] += 1
            page = self.pages.get(path)
            status = 404 if page is None else page.statuses.pop(0) if page.statuses else 200
        if status != 200:
            return self._send(request, status, {"Content-Length": "0"})
        if page.redirect:
            return self._send(request, 302, {"Location": page.redirect, "Content-Length": "0"})
        headers = {"Connection": "close"}
        if page.announce_length:
            headers["Content-Length"] = str(len(page.body))
        self._send(request, 200, headers)
        with self.lock:
            cut = page.cut_after if page.cuts > 0 else None
            page.cuts -= 1
        pieces = [bytes([b]) for b in page.body] if page.drip else [page.body[:cut]]
        for piece in pieces:
            request.wfile.write(piece)
            request.wfile.flush()
            time.sleep(page.drip)
        request.close_connection = True

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()


@contextlib.contextmanager
def serving() -> Iterator[Loopback]:
    """A running server, ended with the block."""
    loopback = Loopback()
    thread = threading.Thread(target=loopback.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield loopback
    finally:
        loopback.server.shutdown()
        loopback.server.server_close()
        thread.join()
