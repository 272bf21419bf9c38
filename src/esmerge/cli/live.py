"""A sweep shows how far it is: what its command set out to do is stored, and shown until the jobs are over."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from esmerge.cli.jobs import planned_runs
from esmerge.cli.searches import is_grid
from esmerge.cli.showing import showing
from esmerge.tracking.callback import started_folder
from esmerge.tracking.planned import SweepPlan, at_work, write_plan
from esmerge.tracking.results import run_folders
from esmerge.tracking.store import RunFolder, utc_now

_SHOWING = ExitStack()


@dataclass(frozen=True)
class StartedCommand:
    """What a sweep's folder held when a command started in it.

    Attributes:
        planned: names of the command's runs.
        is_search: whether it proposes further ones.
        failures: run or job that had failed before -> when that try began.
    """

    planned: Collection[str] = ()
    is_search: bool = False
    failures: Mapping[str, str | None] = field(default_factory=dict)

    def made(self, run: RunFolder) -> bool:
        """Whether a run or job that has failed is the command's: planned, or tried since it started."""
        if run.name in self.planned:
            return True
        is_new = run.name not in self.failures or self.failures[run.name] != run.status().started
        is_job = not (run.path / "method.json").exists()  # which ended without a run to hold it
        return is_new and (self.is_search or is_job)


_STARTED: list[StartedCommand] = []


class ShowRuns(Callback):
    """Stores what the command sets out to do, and shows how far it is until ``stop_showing``."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _start(is_search=False)

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _start(is_search=not is_grid(config))


def stop_showing() -> None:
    """Show how far the sweep came, and leave the terminal as it was; nothing where nothing is shown."""
    _SHOWING.close()


def started_command() -> StartedCommand:
    """The command of this process, and what lay in its folder before; an empty one where it has not started."""
    return _STARTED[-1] if _STARTED else StartedCommand()


def failures_in(folder: Path) -> dict[str, str | None]:
    """Run or job of a sweep folder that has failed -> when that try began, UTC."""
    statuses = {run.name: run.current() for run in run_folders(folder)}
    return {name: status.started for name, status in statuses.items() if status.state == "failed"}


def _start(is_search: bool) -> None:
    folder = started_folder()
    if folder is None:  # the folder was refused, which has been said
        return
    kinds = {name: spec.info.kind.value for name, spec in planned_runs().items()}
    _STARTED.append(StartedCommand(frozenset(kinds), is_search, failures_in(folder)))
    write_plan(folder, SweepPlan(utc_now(), kinds, is_search))
    _SHOWING.enter_context(at_work(folder))
    _SHOWING.enter_context(showing(folder, sys.stderr))
