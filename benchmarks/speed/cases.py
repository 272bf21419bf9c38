"""The rows of the table: every registered merge at its defaults, and the settings that others offer as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.speed.contenders import PEFT_ALONE, PEFT_SVD, Job, Options, is_dense, mergekit_job, peft_job
from benchmarks.speed.inputs import Adapters

from esmerge.merging.api import MERGES


@dataclass(frozen=True)
class Case:
    """One row: a merge of ours, and the same by mergekit and PEFT where they have it.

    Attributes:
        peft: also a merge that PEFT alone has; then ``ours`` is None.
    """

    ours: Job | None
    mergekit: Job | None = None
    peft: Job | None = None

    def jobs(self) -> list[Job]:
        """What is measured for the row."""
        return [job for job in (self.ours, self.mergekit, self.peft) if job is not None]


def cases(low: Adapters, dense: Adapters, only: set[str], alone: bool) -> list[Case]:
    """All rows.

    Args:
        low: what merges get that stay low-rank.
        dense: what merges get that compute dense updates.
        only: names of merges; all if there are none.
        alone: leave mergekit and PEFT out.
    """
    selection = [_case(*row, low, dense) for row in _rows(low.rank) if not only or row[0] in only]
    if alone:
        return [Case(case.ours) for case in selection]
    if not only:
        selection += [Case(None, None, Job("peft", name, low, options)) for name, options in PEFT_ALONE.items()]
    return selection


def _case(name: str, space: str, granularity: str | None, options: Options, low: Adapters, dense: Adapters) -> Case:
    ours = Job("ours", name, dense if is_dense(name, space, granularity) else low, options, space, granularity)
    peft = peft_job(name, space, options, low)
    if peft is not None and peft.method.endswith("svd"):
        peft = replace(peft, adapters=dense)
    return Case(ours, mergekit_job(name, space, options, dense), peft)


def _rows(rank: int) -> Iterator[tuple[str, str, str | None, Options]]:
    """Merge, space, granularity and changed settings; truncated ones are there for PEFT's sake."""
    for name in MERGES.names():
        info = MERGES.get(name).info
        granularities = info.granularities or (None,)
        yield from ((name, space, granularity, ()) for space in info.spaces for granularity in granularities)
    yield from ((name, "delta", None, (("rank", rank),)) for name in PEFT_SVD)
