"""How long to wait for a server, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry


@dataclass(frozen=True)
class RetryPolicy:
    """When a transfer is tried again. All times in seconds.

    Attributes:
        attempts: tries in a row that bring nothing new before the transfer is given up.
        pause, longest_pause: wait after the first failure, doubled after each further one up to the longest; the wait
            is drawn between half of that and all of it, so that clients of one server do not return together.
        longest_request: a transfer is given up if the server asks for a longer wait than this.
        connect, stall: no connection, or no further byte, for this long is a failure.
        sleep: function that waits.
    """

    attempts: int = 7
    pause: float = 1.0
    longest_pause: float = 60.0
    longest_request: float = 600.0
    connect: float = 15.0
    stall: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, failures: int, requested: float | None = None) -> float:
        """How long to wait after this many failures in a row (from 1): the server's request, if it made one."""
        if requested is not None:
            return requested
        longest = min(self.longest_pause, self.pause * 2.0 ** (failures - 1))
        return longest * random.uniform(0.5, 1.0)


def retry_after_seconds(header: str | None) -> float | None:
    """Seconds in a ``Retry-After`` header, which gives a number or a date; None if there is none that can be read."""
    if header is None:
        return None
    try:
        return Retry(0).parse_retry_after(header)
    except (InvalidHeader, OverflowError, ValueError):
        return None
