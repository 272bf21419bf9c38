"""A file server on this machine that can be told to misbehave."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Any], None]


class Site(ThreadingHTTPServer):
    """Files by path; each request is recorded, and answered by the next of ``script`` while there is one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.script: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()  # ends what stalls

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        answer = self.server.script.pop(0) if self.server.script else good()
        answer(self)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def site() -> Iterator[Site]:
    """A running server."""
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


def etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def good(
    sent: int | None = None,
    *,
    ranges: bool = True,
    validators: bool = True,
    if_range: bool = True,
    length: bool = True,
    stall: bool = False,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Serve the file as a server should, but for what is asked otherwise.

    Args:
        sent: break off after this many bytes of the body.
        ranges: whether Range is understood; ``if_range`` whether If-Range is.
        validators, length: whether ETag and Content-Length are sent.
        stall: instead of breaking off, send nothing more until the server ends.
    """

    def answer(request: Handler) -> None:
        body = request.server.files[request.path]
        start = _start(request, body, if_range) if ranges else 0
        part = body[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if validators:
            request.send_header("ETag", etag(body))
        if length:
            request.send_header("Content-Length", str(len(part)))
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(part if sent is None else part[:sent])
        request.wfile.flush()
        if stall:
            request.server.released.wait(10)

    return answer


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"no") -> Answer:
    """An answer that is no file."""

    def answer(request: Handler) -> None:
        request.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def raw(text: bytes) -> Answer:
    """These bytes and the end of the connection."""

    def answer(request: Handler) -> None:
        request.wfile.write(text)

    return answer


def _start(request: Handler, body: bytes, if_range: bool) -> int:
    byte_range = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    if byte_range is None or (if_range and condition not in (None, etag(body))):
        return 0
    return int(byte_range.removeprefix("bytes=").removesuffix("-"))
