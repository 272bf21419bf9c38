"""What spreads the jobs of a multirun: a launcher that cannot be used is refused before anything is done."""

from __future__ import annotations

import sys

from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

GROUP = "hydra/launcher"
BASIC = "basic"  # Hydra's own: one job after the other
EXTRAS = {"submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}  # launcher -> extra that brings it


class CheckLauncher(Callback):
    """Refuses, in one line, a launcher without its package, and one where there are no jobs to spread."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        name = launcher_of(config)
        if name != BASIC:
            sys.exit(f"error: {GROUP}={name} spreads the jobs of a multirun, and this is a single job: add -m")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        name, target = launcher_of(config), str(config.hydra.launcher._target_)
        if target in Plugins.instance().class_name_to_class:
            return
        remedy = f"pip install 'es-merging-bench[{EXTRAS[name]}]'" if name in EXTRAS else "install what brings it"
        sys.exit(f"error: {GROUP}={name} needs {target.rpartition('.')[2]}, which is not installed: {remedy}")


def launcher_of(config: DictConfig) -> str:
    """The config name of the launcher."""
    return str(config.hydra.runtime.choices[GROUP])
