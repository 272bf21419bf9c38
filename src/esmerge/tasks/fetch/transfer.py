"""One file over HTTP: begun, resumed, tried again, never taken for whole when it is not.

The retries of urllib3 cover a request up to its answer, not a body that breaks off, and would multiply with a second
layer of retries above them; so one loop here covers both, and goes on from the last byte.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from tqdm import tqdm

from esmerge.core.errors import InputError
from esmerge.core.progress import progress
from esmerge.tasks.fetch.partial import Notes, Partial
from esmerge.tasks.fetch.patience import Patience, asked_to_wait

CHUNK = 1 << 14  # bytes; at most this much of what has arrived is lost when a transfer breaks off
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be another one later
HEADERS = {
    "User-Agent": "es-merging-bench (python-requests)",
    "Accept-Encoding": "identity",  # so that lengths and ranges count the file's own bytes
}


class Again(Exception):
    """A failure that may pass; ``asked`` is the wait in seconds that the server asked for."""

    def __init__(self, reason: str, asked: float | None = None) -> None:
        super().__init__(reason)
        self.asked = asked


def download(url: str, target: Path, patience: Patience | None = None) -> Partial:
    """Bring a file as far as ``target``'s partial file, from where an earlier transfer stopped if the file is the same.

    Raises:
        InputError: the server refuses, or fails for longer than patience lasts. What has arrived stays for next time.
    """
    patience = patience or Patience()
    partial = Partial(target)
    failures, most = 0, partial.size()
    with requests.Session() as session:
        session.headers.update(HEADERS)
        while True:
            try:
                _attempt(session, url, partial, patience, target.name)
                return partial
            except Again as again:
                failures = 1 if partial.size() > most else failures + 1  # a transfer that gets on is not given up
                most = max(most, partial.size())
                _rest(again, failures, patience, url, partial)


def _rest(again: Again, failures: int, patience: Patience, url: str, partial: Partial) -> None:
    """Wait before the next attempt, or raise ``InputError`` if there is none."""
    kept = f"{partial.size()} bytes are kept in {partial.path}; run the same command again to go on"
    if failures >= patience.attempts:
        raise InputError(f"{url} could not be fetched in {failures} attempts, the last one: {again}. {kept}") from again
    if again.asked is not None and again.asked > patience.longest_request:
        raise InputError(f"{url}: {again}, and the server asks to wait {again.asked:.0f} s. {kept} later") from again
    pause = patience.wait(failures, again.asked)
    tqdm.write(f"{url}: {again}; attempt {failures + 1} of {patience.attempts} in {pause:.1f} s", file=sys.stderr)
    patience.sleep(pause)


def _attempt(session: requests.Session, url: str, partial: Partial, patience: Patience, title: str) -> None:
    """One request and its body; raises ``Again`` for what may pass."""
    notes = partial.notes(url)
    if notes is not None and notes.total == partial.size():
        return  # it was whole when an earlier process ended
    headers = {} if notes is None else {"Range": f"bytes={partial.size()}-", "If-Range": str(notes.validator)}
    with _passing_failures():
        timeout = (patience.connect, patience.stall)
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            _check_status(response, partial)
            if response.status_code == requests.codes.partial_content:
                notes = _same_file(response, notes, partial)
            else:  # the whole file: asked for, or ranges are ignored, or the file is another one by now
                notes = _notes(response, url)
                partial.begin(notes)
            _receive(response, partial, notes, title)


@contextmanager
def _passing_failures() -> Iterator[None]:
    """Say which of the failures of requests may pass."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise InputError(f"no trust in the server's certificate: {error}") from error
    except (requests.Timeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise Again(f"{type(error).__name__}: {error}") from error
    except requests.RequestException as error:  # an address that is none, a circle of redirects
        raise InputError(f"the file cannot be asked for: {type(error).__name__}: {error}") from error


def _check_status(response: requests.Response, partial: Partial) -> None:
    """Raise ``Again`` for what may pass and ``InputError`` for what does not."""
    said = f"HTTP {response.status_code} {response.reason}"
    if response.status_code in PASSING:
        raise Again(said, asked_to_wait(response.headers.get("Retry-After")))
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        partial.discard()
        raise Again(f"{said}: the partial file is longer than the server's; it is begun again")
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        raise InputError(
            f"{response.url} answered {said}; the address may be out of date or closed to the public: "
            "see the source's own page in benchmarks/cards/SOURCES.md"
        )
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise InputError(
            f"{response.url} answered with a web page where a file was expected; open it in a browser, save the file "
            "under the name that `python -m src.tasks fetch` shows, and run the command again"
        )


def _same_file(response: requests.Response, notes: Notes | None, partial: Partial) -> Notes:
    """The notes, if the answer goes on exactly where the partial file ends; else ``Again``, with nothing kept."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if notes is not None and found is not None and int(found[1]) == partial.size():
        same_length = notes.total is None or found[2] in ("*", str(notes.total))
        etag = response.headers.get("ETag")
        by_etag = str(notes.validator).startswith('"')
        if same_length and (not by_etag or etag in (None, notes.validator)):
            return notes
    partial.discard()
    raise Again("the server went on with another file or at another place; the file is begun again")


def _notes(response: requests.Response, url: str) -> Notes:
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":  # lengths then count other bytes than the file's
        return Notes(url, None, None)
    etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")  # a weak ETag does not fix the bytes
    return Notes(url, validator, int(length) if length.isdigit() else None)


def _receive(response: requests.Response, partial: Partial, notes: Notes, title: str) -> None:
    """Append the body; raises ``Again`` if the file is then not as long as announced."""
    bar = progress(title, notes.total or 0, done=partial.size())
    bar.total, bar.unit, bar.unit_scale = notes.total, "B", True
    with bar, partial.path.open("ab") as file:
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            file.flush()  # what has arrived outlives the process
            bar.update(len(chunk))
        os.fsync(file.fileno())
    if notes.total is None or partial.size() == notes.total:
        return
    size = partial.size()
    if size > notes.total:
        partial.discard()
    raise Again(f"{size} of {notes.total} bytes arrived")
