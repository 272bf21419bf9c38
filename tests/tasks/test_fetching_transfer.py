"""One file over HTTP, from a server that breaks off, stalls, forgets, changes its mind, and refuses."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tasks.fetching_server import Site, etag, good, raw, site, status

from esmerge.core.errors import InputError
from esmerge.tasks.fetch import transfer
from esmerge.tasks.fetch.partial import Partial
from esmerge.tasks.fetch.retry import RetryPolicy, retry_after_seconds
from esmerge.tasks.fetch.transfer import CHUNK, download

BODY = b"".join(b"%d,C,1\n" % number for number in range(20_000))  # about nine chunks
CUT = 3 * CHUNK


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between this process and itself."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as web_server:
        web_server.files["/table.csv"] = BODY
        yield web_server


@pytest.fixture
def naps() -> list[float]:
    """The waits that were asked for."""
    return []


@pytest.fixture
def retry(naps: list[float]) -> RetryPolicy:
    return RetryPolicy(attempts=4, stall=0.3, sleep=naps.append)


def fetched(server: Site, folder: Path, retry: RetryPolicy) -> bytes:
    return download(server.url("/table.csv"), folder / "table.csv", retry).path.read_bytes()


def test_a_file_arrives_whole_beside_its_final_name(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    assert fetched(server, tmp_path, retry) == BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv.part", "table.csv.part.json"]
    headers = server.requests[0][1]
    assert "Range" not in headers and headers["Accept-Encoding"] == "identity"


def test_a_truncated_transfer_goes_on_from_its_last_byte(
    server: Site, tmp_path: Path, retry: RetryPolicy, naps: list[float]
) -> None:
    server.script = [good(CUT), good(CUT)]
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert server.requests[1][1]["If-Range"] == etag(BODY)
    assert all(0.5 <= nap <= 1.0 for nap in naps) and len(naps) == 2, "each attempt got on, so the wait did not grow"


def test_a_killed_download_is_resumed_by_the_next(
    server: Site, tmp_path: Path, retry: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, counts = transfer.progress, []

    def killing(title: str, total: int, done: int = 0) -> object:
        bar = real(title, total, done)
        monkeypatch.setattr(bar, "update", lambda count: counts.append(count) or (len(counts) == 4 and kill()))
        return bar

    def kill() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(transfer, "progress", killing)
        fetched(server, tmp_path, retry)
    assert not (tmp_path / "table.csv").exists()
    size = sum(counts)
    assert (tmp_path / "table.csv.part").read_bytes() == BODY[:size] and 0 < size < len(BODY)
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None, f"bytes={size}-"]


def test_a_file_that_was_whole_is_not_asked_for_again(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    fetched(server, tmp_path, retry)
    assert fetched(server, tmp_path, retry) == BODY
    assert len(server.requests) == 1


def test_a_stalled_server_is_left_and_asked_again(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    server.script = [good(CUT, stall=True)]
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None, f"bytes={CUT}-"]


def test_a_server_that_ignores_ranges_sends_the_whole_again(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    server.script = [good(CUT), good(ranges=False)]
    assert fetched(server, tmp_path, retry) == BODY


def test_a_server_that_breaks_off_at_the_same_place_is_given_up(
    server: Site, tmp_path: Path, retry: RetryPolicy
) -> None:
    server.script = [good(CUT, ranges=False)] * 10
    with pytest.raises(InputError, match=rf"4 attempts, the last one: .*{CUT} bytes are kept in .*table\.csv\.part"):
        fetched(server, tmp_path, retry)
    assert len(server.requests) == 4


def test_without_a_validator_nothing_is_resumed(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    server.script = [good(CUT, validators=False), good(validators=False)]
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None, None]


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({"Last-Modified": "Tue, 01 Oct 2024 10:00:00 GMT"}, "Tue, 01 Oct 2024 10:00:00 GMT"),
        ({"ETag": 'W/"1"', "Last-Modified": "Tue, 01 Oct 2024 10:00:00 GMT"}, "Tue, 01 Oct 2024 10:00:00 GMT"),
        ({"ETag": 'W/"1"'}, None),
    ],
)
def test_only_what_fixes_the_bytes_validates(
    headers: dict[str, str], condition: str | None, server: Site, tmp_path: Path, retry: RetryPolicy
) -> None:
    server.script = [good(CUT, validators=False, headers=headers), good(ranges=False)]
    assert fetched(server, tmp_path, retry) == BODY
    assert server.requests[1][1].get("If-Range") == condition


@pytest.mark.parametrize("if_range", [True, False], ids=["honest", "careless"])
def test_a_file_that_changes_between_requests_is_never_a_mixture(
    if_range: bool, server: Site, tmp_path: Path, retry: RetryPolicy
) -> None:
    server.script = [good(CUT), good(if_range=if_range)]
    other = BODY.replace(b"C", b"N")

    class Changing(list):  # the file is another one from the second request on
        def append(self, request: object) -> None:
            super().append(request)
            if len(self) == 2:
                server.files["/table.csv"] = other

    server.requests = Changing()
    assert fetched(server, tmp_path, retry) == other
    assert len(server.requests) == (2 if if_range else 3)


def test_a_part_at_another_place_is_refused(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    wrong = status(206, {"Content-Range": f"bytes 0-1/{len(BODY)}"}, BODY[:2])
    server.script = [good(CUT), wrong, wrong]
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None, f"bytes={CUT}-", None, None]


def test_a_partial_file_longer_than_the_servers_is_begun_again(
    server: Site, tmp_path: Path, retry: RetryPolicy
) -> None:
    server.script = [good(CUT), status(416)]
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None, f"bytes={CUT}-", None]


@pytest.mark.parametrize("notes", ["", "{}", "[1]", '{"url": 1, "validator": "x", "total": null}'])
def test_notes_that_cannot_be_read_are_no_notes(notes: str, server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    partial = Partial(tmp_path / "table.csv")
    partial.path.write_bytes(b"something else")
    partial.notes_path.write_text(notes)
    assert fetched(server, tmp_path, retry) == BODY
    assert server.ranges() == [None]


def test_a_partial_file_from_another_address_is_not_gone_on_with(
    server: Site, tmp_path: Path, retry: RetryPolicy
) -> None:
    server.files["/other.csv"] = BODY[::-1]
    server.script = [good(CUT), status(404)]
    with pytest.raises(InputError):
        fetched(server, tmp_path, retry)
    assert download(server.url("/other.csv"), tmp_path / "table.csv", retry).path.read_bytes() == BODY[::-1]
    assert server.ranges()[2] is None


def test_errors_of_the_server_are_waited_out_longer_each_time(
    server: Site, tmp_path: Path, retry: RetryPolicy, naps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [status(500), status(503), raw(b"")]
    assert fetched(server, tmp_path, retry) == BODY
    assert [nap / 0.75 for nap in naps] == pytest.approx([1, 2, 4], rel=0.34)  # each is shortened by up to a half
    assert "HTTP 500 Internal Server Error; attempt 2 of 4 in" in capsys.readouterr().err


def test_a_server_that_keeps_failing_is_given_up(
    server: Site, tmp_path: Path, retry: RetryPolicy, naps: list[float]
) -> None:
    server.script = [status(502)] * 9
    with pytest.raises(InputError, match="in 4 attempts, the last one: HTTP 502 Bad Gateway. 0 bytes are kept"):
        fetched(server, tmp_path, retry)
    assert len(server.requests) == 4 and len(naps) == 3


def test_a_wait_that_the_server_asks_for_is_kept(
    server: Site, tmp_path: Path, retry: RetryPolicy, naps: list[float]
) -> None:
    server.script = [status(429, {"Retry-After": "7"}), status(429, {"Retry-After": "soon"})]
    assert fetched(server, tmp_path, retry) == BODY
    assert naps[0] == 7 and 1 <= naps[1] <= 2


def test_a_server_that_asks_for_an_hour_is_left(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    server.script = [status(429, {"Retry-After": "3600"})]
    with pytest.raises(InputError, match="429 Too Many Requests, and the server asks to wait 3600 s"):
        fetched(server, tmp_path, retry)
    assert len(server.requests) == 1


def test_a_wait_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < retry_after_seconds(date) <= 90
    assert retry_after_seconds(None) is None and retry_after_seconds("tomorrow") is None


def test_waits_double_up_to_the_longest_and_are_drawn() -> None:
    retry = RetryPolicy(pause=2, longest_pause=10)
    for failures, longest in ((1, 2), (2, 4), (3, 8), (4, 10), (50, 10)):
        waits = {retry.wait(failures) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_final(code: int, server: Site, tmp_path: Path, retry: RetryPolicy, naps: list[float]) -> None:
    server.script = [status(code)]
    with pytest.raises(InputError, match=rf"/table\.csv answered HTTP {code} .*out of date or closed"):
        fetched(server, tmp_path, retry)
    assert len(server.requests) == 1 and not naps and not list(tmp_path.iterdir())


def test_a_web_page_is_no_table(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    server.script = [status(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Are you sure?")]
    with pytest.raises(InputError, match="a web page where a file was expected; open it in a browser"):
        fetched(server, tmp_path, retry)
    assert not list(tmp_path.iterdir())


def test_redirects_are_followed_and_resumed(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    moved = status(302, {"Location": "/table.csv"})
    server.script = [moved, good(CUT), moved]
    assert download(server.url("/access/1"), tmp_path / "table.csv", retry).path.read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/access/1", "/table.csv"] * 2
    assert server.ranges()[2:] == [f"bytes={CUT}-"] * 2


def test_a_circle_of_redirects_and_a_wrong_address_are_refused(
    server: Site, tmp_path: Path, retry: RetryPolicy
) -> None:
    server.script = [status(302, {"Location": "/table.csv"})] * 40
    with pytest.raises(InputError, match="TooManyRedirects"):
        fetched(server, tmp_path, retry)
    with pytest.raises(InputError, match="cannot be asked for"):
        download("ftp://127.0.0.1/x", tmp_path / "x", retry)


def test_a_server_that_is_not_there_is_tried_again(
    server: Site, tmp_path: Path, retry: RetryPolicy, naps: list[float]
) -> None:
    url = server.url("/table.csv")
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="4 attempts, the last one: ConnectionError"):
        download(url, tmp_path / "table.csv", retry)
    assert len(naps) == 3


def test_a_body_in_chunks_that_ends_early_is_noticed(server: Site, tmp_path: Path, retry: RetryPolicy) -> None:
    head = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "1"\r\n\r\n'
    server.script = [raw(head + b"5\r\n0,C,1\r\n"), good(ranges=False, length=False)]
    assert fetched(server, tmp_path, retry) == BODY


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, len(BODY)), st.booleans()), max_size=3))
def test_whatever_the_breaks_the_bytes_are_right(cuts: list[tuple[int, bool]]) -> None:
    with site() as server, tempfile.TemporaryDirectory() as folder:
        server.files["/table.csv"] = BODY
        server.script = [good(cut, ranges=ranges) for cut, ranges in cuts]
        assert fetched(server, Path(folder), RetryPolicy(sleep=lambda _: None)) == BODY
        notes = json.loads((Path(folder) / "table.csv.part.json").read_text())
        assert notes["total"] == len(BODY) and notes["validator"] == etag(BODY)
