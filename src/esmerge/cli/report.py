"""Front door: tables and figures of a sweep, ``python -m src.report folder=outputs/<sweep>``, or two side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.markdown import Markdown

from esmerge.cli.command_line import prepare_command_line, quoted
from esmerge.cli.composing import start
from esmerge.core.command import explain_commands_in_help
from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.paths import CONF, user_path
from esmerge.core.schema import plain, typed
from esmerge.core.terminal import show_everywhere
from esmerge.experiment.wandb_groups import log_missing
from esmerge.report.beside.build import compare_sources
from esmerge.report.build import build_report
from esmerge.report.terminal import show
from esmerge.storage.usable import check_folder
from esmerge.tracking.results import latest_sweep, run_folders
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_sync import check_key, send

SYNC = "sync"

explain_commands_in_help()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def job(config: DictConfig) -> None:
    """Read, write, show."""
    try:
        outputs = user_path(str(config.outputs), "outputs")
        if config.compare is not None:
            _compare(config, outputs)
            return
        folder = user_path(str(config.folder), "folder") if config.folder else latest_sweep(outputs)
        if folder.is_dir():
            check_folder(folder, "folder")
        if config.wandb is not None:
            _sync(config, folder)
            return
        report = build_report(folder)
    except BenchError as error:
        sys.exit(f"error: {error}")
    show(report.tables, report.paths, report.verdict)


def _sync(config: DictConfig, folder: Path) -> None:
    if config.wandb != SYNC:
        raise ConfigError(f"wandb={config.wandb}: expected {SYNC}, which sends the W&B runs that the server lacks")
    tracking = typed(Tracking, plain(config.tracking), "tracking")
    run_folders(folder)  # refuses an absent folder
    check_key()
    outcome = send(log_missing(folder, tracking))
    print(f"W&B runs: {len(outcome.now)} sent now, {len(outcome.before)} sent before")


def _compare(config: DictConfig, outputs: Path) -> None:
    sources = config.compare if not isinstance(config.compare, str) else [config.compare]
    if len(sources) != 2:
        raise ConfigError(
            f"compare={','.join(map(str, sources))}: expected two, compare=outputs/A,outputs/B, or "
            """'compare=["A","B"]' where a path has a comma"""
        )
    first, second = (user_path(str(source), "compare") for source in sources)
    names = f"{first.resolve().name}-{second.resolve().name}"
    out = user_path(str(config.out), "out") if config.out else outputs / "comparisons" / names
    check_folder(out, "out")
    comparison = compare_sources([first, second], out)
    screen = Console()
    screen.print(Markdown(comparison.text))
    for path in comparison.paths:
        screen.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)


def with_list(words: Sequence[str]) -> list[str]:
    """The words, with the two paths of ``compare=A,B`` as a list, which Hydra would take for two jobs."""
    return [_as_list(word) if word.startswith("compare=") and "[" not in word else word for word in words]


def _as_list(word: str) -> str:
    key, _, value = word.partition("=")
    if value in ("", "null"):
        return word
    items = [quoted(key, item.strip("'\"")).removeprefix(f"{key}=") for item in value.split(",")]
    return f"{key}=[{','.join(items)}]"


def main() -> None:
    """The job, on every terminal."""
    show_everywhere()
    sys.argv[1:] = with_list(sys.argv[1:])
    prepare_command_line()
    start(job)


if __name__ == "__main__":
    main()
