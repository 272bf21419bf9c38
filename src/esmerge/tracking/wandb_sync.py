"""W&B runs that were written offline, sent later: what has been sent carries the client's mark and is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from tqdm import tqdm

from esmerge.core.errors import TrackingError
from esmerge.core.progress import progress
from esmerge.core.secrets import redacted
from esmerge.tracking.wandb_client import SERVICE, client, client_environment, logged_in, passing_client
from esmerge.tracking.wandb_record import LoggedRun, is_on_server

FEW_RETRIES = {  # or an absent server is waited for without end
    "WANDB__GRAPHQL_RETRY_MAX": "3",
    "WANDB__FILE_STREAM_RETRY_MAX": "3",
    "WANDB__FILE_TRANSFER_RETRY_MAX": "3",
}
EVERY = 1.0  # seconds between two looks at what has been sent
ERROR = " ERROR "  # in the client's lines


@dataclass(frozen=True)
class Sent:
    """What ``send`` did.

    Attributes:
        now: runs that were sent.
        before: runs that the server had.
    """

    now: Sequence[LoggedRun]
    before: Sequence[LoggedRun]


def check_key() -> None:
    """Refuse at once what the server would refuse later.

    Raises:
        TrackingError: there is no key for the server.
    """
    with passing_client("online"):
        if not logged_in():
            raise TrackingError(
                f"wandb=sync, but there is no W&B API key for {client().base_url}: run `wandb login`, or set "
                "WANDB_API_KEY"
            )


def send(runs: Sequence[LoggedRun]) -> Sent:
    """Send the runs that the server lacks, with the client's own command.

    Raises:
        TrackingError: files of a run are gone, or a run was not sent whole; the others were.
    """
    before = [run for run in runs if is_on_server(run)]
    missing = [run for run in runs if not is_on_server(run)]
    _check_files(missing)
    message = ""
    if missing:
        with progress("W&B runs", len(missing)) as bar, _counting(missing, bar):
            message = _sync([run.folder for run in missing])
    failed = [run for run in missing if not is_on_server(run)]
    if failed:
        raise TrackingError(
            f"{len(failed)} of {len(missing)} W&B runs were not sent, the first of them {failed[0].folder}: "
            f"{message or 'the client did not say why'}; the same command sends what is missing"
        )
    return Sent(missing, before)


@contextmanager
def _counting(runs: Sequence[LoggedRun], bar: tqdm) -> Iterator[None]:
    """Move the bar as the client marks what it has sent."""
    ended = Event()

    def count() -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(EVERY)
            bar.update(sum(map(is_on_server, runs)) - bar.n)

    counter = Thread(target=count, daemon=True)
    counter.start()
    try:
        yield
    finally:
        ended.set()
        counter.join()


def _check_files(runs: Sequence[LoggedRun]) -> None:
    for run in runs:
        if not any(Path(run.folder).glob("*.wandb")):
            raise TrackingError(
                f"{run.folder} holds no W&B files of run {run.id}: bring them back, or delete the wandb.json that "
                "names the folder, and the run is logged anew from what is stored"
            )


def _sync(folders: Sequence[str]) -> str:
    """Let the client send folders; returns its first error, or the last line that it said."""
    with client_environment("online", Path(folders[0]).parents[1]):
        # The command starts a service of its own: the variable names this process's, which may have ended.
        environment = {name: value for name, value in os.environ.items() if name != SERVICE}
        # One after the other: what runs share is then on the server before the second of them asks for it.
        command = [sys.executable, "-m", "wandb", "sync", "--yes", "--skip-synced", "-n", "1", *folders]
        process = subprocess.run(
            command,
            env={**environment, **FEW_RETRIES},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = [line.strip() for line in (process.stdout + process.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if ERROR in line]
    return redacted(next(iter(errors + lines[-1:]), ""))  # its exit code is 0 where nothing could be sent, too
