"""What a sweep's command set out to do, and whether a process is still at it: two small files in the sweep folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from esmerge.core.errors import StoreError
from esmerge.storage.files import read_json, write_json

PLAN = "plan.json"
PRESENCE = ".at_work"  # locked, shared, by every process that carries out the sweep


@dataclass(frozen=True)
class SweepPlan:
    """What ``plan.json`` holds.

    Attributes:
        started: when the command started, UTC.
        kinds: name of each planned run -> the kind of its method.
        is_search: whether further runs are proposed one after another, so that nobody knows how many there will be.
    """

    started: str
    kinds: Mapping[str, str] = field(default_factory=dict)
    is_search: bool = False


def write_plan(sweep: Path, plan: SweepPlan) -> Path:
    """Store the plan; that of an earlier command in the same folder gives way."""
    return write_json(sweep / PLAN, asdict(plan))


def read_plan(sweep: Path) -> SweepPlan | None:
    """The plan of the folder's last command; None where there is none.

    Raises:
        StoreError: it is damaged.
    """
    path = sweep / PLAN
    if not path.exists():
        return None
    try:
        return SweepPlan(**read_json(path))
    except TypeError as error:
        raise StoreError(f"{path} is no plan of a sweep ({error}): delete it; the next sweep writes it") from error


@contextmanager
def at_work(sweep: Path) -> Iterator[None]:
    """While it lasts, and no longer than this process lives, the sweep counts as being carried out."""
    with (sweep / PRESENCE).open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def somebody_is_at_work(sweep: Path) -> bool:
    """Whether a process is carrying out the sweep."""
    try:
        with (sweep / PRESENCE).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a folder of somebody else's
        return False
    return False
