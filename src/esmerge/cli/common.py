"""What the front doors share: where configs lie, what is silenced, and how a sweep ends."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.console import Console
from rich.table import Table

from esmerge.core.command import explain_commands_in_help
from esmerge.core.config_files import read_configs_in_any_encoding
from esmerge.core.terminal import show_everywhere, warn_in_plain_lines
from esmerge.core.timing import seconds
from esmerge.report.build import build_report
from esmerge.report.terminal import show
from esmerge.specialists.families.custom.settings import open_experts_node
from esmerge.storage.files import write_json
from esmerge.tracking.results import run_folders
from esmerge.tracking.resume import name_sweep_folders
from esmerge.tracking.store import RunFolder

open_experts_node()  # before any config is composed
explain_commands_in_help()
read_configs_in_any_encoding()
# The launchers' packages register configs under the names of ours, and Hydra checks ours against them, as it should.
# Here, where worker processes come by too.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
name_sweep_folders()
warn_in_plain_lines()
for _name in ("optuna.study", "optuna.storages"):  # a coloured line on each search, with a name that nobody gave
    logging.getLogger(_name).setLevel(logging.WARNING)


def quiet() -> None:
    """Silence the progress bars and advice of libraries; those of this program stay, on every terminal."""
    show_everywhere()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def sweep_folder() -> Path:
    """The folder of the sweep this job belongs to."""
    config = HydraConfig.get()
    return Path(config.sweep.dir if config.mode == RunMode.MULTIRUN else config.run.dir)


def finish(folder: Path, is_own: Callable[[RunFolder], bool]) -> int:
    """Report on a sweep; returns the exit code: 1 if a run of this command failed.

    Args:
        is_own: whether a run or job that failed is this command's; those of earlier ones are named apart.
    """
    report = build_report(folder)
    stage_seconds = seconds()
    write_json(folder / "timings.json", stage_seconds)
    _show_stages(stage_seconds)
    show(report.tables, report.paths, report.verdict)
    failed = [run for run in run_folders(folder) if run.outcome().state == "failed"]
    earlier = [run for run in failed if not is_own(run)]
    for run in earlier:
        print(f"of an earlier command: {run.name} failed ({run.outcome().reason}); delete {run.path} or run it again")
    return int(len(failed) > len(earlier))


def _show_stages(stage_seconds: dict[str, float]) -> None:
    grid = Table(title="Where the time went", title_justify="left", header_style="bold")
    grid.add_column("stage")
    grid.add_column("seconds", justify="right")
    for name, value in stage_seconds.items():
        grid.add_row(name, f"{value:.1f}")
    Console().print(grid)
