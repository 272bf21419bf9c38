"""One file over HTTP: started, resumed and tried again until all of its bytes are there.

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
from esmerge.tasks.fetch.retry import RetryPolicy, retry_after_seconds

CHUNK = 1 << 14  # bytes; at most this much of what has arrived is lost when a transfer breaks off
RETRYABLE = {408, 425, 429, 500, 502, 503, 504}  # status codes of failures that may pass
HEADERS = {
    "User-Agent": "es-merging-bench (python-requests)",
    "Accept-Encoding": "identity",  # so that lengths and ranges count the file's own bytes
}


class RetryableError(Exception):
    """A failure that may pass; ``retry_after`` is the wait in seconds that the server asked for."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def download(url: str, target: Path, retry: RetryPolicy | None = None) -> Partial:
    """Bring a file as far as ``target``'s partial file, from where an earlier transfer stopped if the file is the same.

    Raises:
        InputError: the server refuses, or fails in every attempt that ``retry`` allows. What has arrived
            stays for next time.
    """
    retry = retry or RetryPolicy()
    partial = Partial(target)
    failures, size = 0, partial.size()
    with requests.Session() as session:
        session.headers.update(HEADERS)
        while True:
            try:
                _attempt(session, url, partial, retry, target.name)
                return partial
            except RetryableError as error:
                failures = 1 if partial.size() > size else failures + 1  # a transfer that gets on is not given up
                size = max(size, partial.size())
                _wait_or_give_up(error, failures, retry, url, partial)


def _wait_or_give_up(error: RetryableError, failures: int, retry: RetryPolicy, url: str, partial: Partial) -> None:
    """Wait before the next attempt, or raise ``InputError`` if there is none."""
    resume = f"{partial.size()} bytes are kept in {partial.path}; run the same command again to go on"
    if failures >= retry.attempts:
        raise InputError(
            f"{url} could not be fetched in {failures} attempts, the last one: {error}. {resume}"
        ) from error
    if error.retry_after is not None and error.retry_after > retry.longest_request:
        raise InputError(
            f"{url}: {error}, and the server asks to wait {error.retry_after:.0f} s. {resume} later"
        ) from error
    pause = retry.wait(failures, error.retry_after)
    tqdm.write(f"{url}: {error}; attempt {failures + 1} of {retry.attempts} in {pause:.1f} s", file=sys.stderr)
    retry.sleep(pause)


def _attempt(session: requests.Session, url: str, partial: Partial, retry: RetryPolicy, title: str) -> None:
    """One request and its body; raises ``RetryableError`` for what may pass."""
    notes = partial.notes(url)
    if notes is not None and notes.total == partial.size():
        return  # it was whole when an earlier process ended
    headers = {} if notes is None else {"Range": f"bytes={partial.size()}-", "If-Range": str(notes.validator)}
    with _translate_failures():
        timeout = (retry.connect, retry.stall)
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            _check_status(response, partial)
            if response.status_code == requests.codes.partial_content:
                notes = _same_file(response, notes, partial)
            else:  # the whole file: no range requested, ranges ignored, or the file has changed
                notes = _notes(response, url)
                partial.begin(notes)
            _receive(response, partial, notes, title)


@contextmanager
def _translate_failures() -> Iterator[None]:
    """Raise ``RetryableError`` for failures of requests that may pass, ``InputError`` for the others."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise InputError(f"no trust in the server's certificate: {error}") from error
    except (requests.Timeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise RetryableError(f"{type(error).__name__}: {error}") from error
    except requests.RequestException as error:  # an address that is none, a circle of redirects
        raise InputError(f"the file cannot be asked for: {type(error).__name__}: {error}") from error


def _check_status(response: requests.Response, partial: Partial) -> None:
    """Raise ``RetryableError`` for what may pass and ``InputError`` for what does not."""
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code in RETRYABLE:
        raise RetryableError(status, retry_after_seconds(response.headers.get("Retry-After")))
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        partial.discard()
        raise RetryableError(f"{status}: the partial file is longer than the server's; it is begun again")
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        raise InputError(
            f"{response.url} answered {status}; the address may be out of date or closed to the public: "
            "see the source's own page in benchmarks/cards/SOURCES.md"
        )
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise InputError(
            f"{response.url} answered with a web page where a file was expected; open it in a browser, save the file "
            "under the name that `python -m src.tasks fetch` shows, and run the command again"
        )


def _same_file(response: requests.Response, notes: Notes | None, partial: Partial) -> Notes:
    """The notes, if the answer goes on exactly where the partial file ends; else ``RetryableError``."""
    content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if notes is not None and content_range is not None and int(content_range[1]) == partial.size():
        same_length = notes.total is None or content_range[2] in ("*", str(notes.total))
        etag = response.headers.get("ETag")
        by_etag = str(notes.validator).startswith('"')
        if same_length and (not by_etag or etag in (None, notes.validator)):
            return notes
    partial.discard()
    raise RetryableError("the server went on with another file or at another place; the file is begun again")


def _notes(response: requests.Response, url: str) -> Notes:
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":  # lengths then count other bytes than the file's
        return Notes(url, None, None)
    etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")  # a weak ETag does not fix the bytes
    return Notes(url, validator, int(length) if length.isdigit() else None)


def _receive(response: requests.Response, partial: Partial, notes: Notes, title: str) -> None:
    """Append the body; raises ``RetryableError`` if the file is then not as long as announced."""
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
    raise RetryableError(f"{size} of {notes.total} bytes arrived")
