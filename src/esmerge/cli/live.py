"""A sweep shows how far it is: what its command set out to do is stored, and shown until the jobs are over."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from esmerge.cli.jobs import is_grid, planned_runs
from esmerge.cli.showing import showing
from esmerge.tracking.callback import started_folder
from esmerge.tracking.planned import SweepPlan, at_work, write_plan
from esmerge.tracking.store import utc_now

_SHOWING = ExitStack()


class ShowRuns(Callback):
    """Stores what the command sets out to do, and shows how far it is until ``stop_showing``."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _start(is_search=False)

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _start(is_search=not is_grid(config))


def stop_showing() -> None:
    """Show how far the sweep came, and leave the terminal as it was; nothing where nothing is shown."""
    _SHOWING.close()


def _start(is_search: bool) -> None:
    folder = started_folder()
    if folder is None:  # the folder was refused, which has been said
        return
    kinds = {name: spec.info.kind.value for name, spec in planned_runs().items()}
    write_plan(folder, SweepPlan(utc_now(), kinds, is_search))
    _SHOWING.enter_context(at_work(folder))
    _SHOWING.enter_context(showing(folder, sys.stderr))
