"""W&B runs that stand for several runs of a sweep: the probe, a method over its seeds, and the sweep's figures.

A record beside the runs names the W&B run and says by a hash what it shows, so that the same is not logged twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from esmerge.core.secrets import redacted
from esmerge.storage.cache import digest
from esmerge.storage.files import file_sha256
from esmerge.tracking.lineage import Lineage
from esmerge.tracking.wandb_artifacts import DIGITS, artifact_of, signals_product, specialist_product, use
from esmerge.tracking.wandb_client import client_mode
from esmerge.tracking.wandb_content import headline, table, tags
from esmerge.tracking.wandb_record import LoggedRun, is_logged, read_logged, write_logged
from esmerge.tracking.wandb_run import Identity, restart_client, wandb_run
from esmerge.tracking.wandb_settings import Tracking

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

PROBES, SEEDS, OVERVIEW = "probes", "seeds", "overview"  # folders of a sweep that hold the records


def log_probe(settings: Tracking, mode: str, sweep: Path, lineage: Lineage, config: Mapping[str, object]) -> None:
    """Log the probe of a run, once for all runs of the sweep that read the same signals.

    Args:
        config: of one of these runs.
    """
    signals = lineage.signals
    if signals is None:
        return
    run_config = {key: config[key] for key in ("specialists", "probe", "seed") if key in config}
    name = f"probe-{signals.probe}-{signals.digest[:DIGITS]}"

    def fill(run: wandb.Run) -> None:
        for source in lineage.specialists:
            use(run, artifact_of(specialist_product(source), settings.upload))
        run.log_artifact(artifact_of(signals_product(signals, lineage.specialists), settings.upload))
        costs = {} if signals.seconds is None else {"seconds": signals.seconds}
        run.summary.update({"prompts": signals.prompts, **costs})

    record = sweep / PROBES / signals.digest[:DIGITS]
    log_shared(settings, mode, sweep, record, Identity(sweep.name, name, "probe", [signals.probe]), run_config, fill)


def log_over_seeds(
    settings: Tracking,
    record: Path,
    config: Mapping[str, object],
    name: str,
    axes: Mapping[str, object],
    rows: Sequence[Mapping[str, object]],
    content: str,
) -> None:
    """Log a method over its seeds.

    Args:
        record: a folder ``<sweep>/seeds/<method>``.
        axes: the method's values on the axes of ``results.csv``.
        rows: ``benchmark, metric, mean, sd, seeds``.
        content: hash of what is shown.
    """
    sweep = record.parents[1]
    mode = client_mode(settings.mode, settings.parent(sweep))

    def fill(run: wandb.Run) -> None:
        run.summary.update(headline([{**row, "value": row["mean"]} for row in rows]))
        run.summary.update(headline([{**row, "metric": f"{row['metric']} sd", "value": row["sd"]} for row in rows]))
        run.log({"over seeds": table(rows, list(rows[0]))})

    log_shared(settings, mode, sweep, record, Identity(sweep.name, name, "seeds", tags([axes])), config, fill, content)


def log_overview(
    settings: Tracking, sweep: Path, figures: Sequence[Path], results: Sequence[Mapping[str, object]], verdict: str
) -> None:
    """Log the sweep's figures, its results as one table, and its verdict.

    Args:
        figures: PNG files, each shown under ``figures/`` and its name.
        results: rows of ``results.csv``.
    """
    mode = client_mode(settings.mode, settings.parent(sweep))
    content = digest([*(file_sha256(path) for path in figures), list(results), verdict])

    def fill(run: wandb.Run) -> None:
        import wandb

        run.summary.update({"verdict": verdict})
        images = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        run.log({**images, "results": table(results)})

    identity = Identity(sweep.name, f"{sweep.name}: overview", "overview")
    log_shared(settings, mode, sweep, sweep / OVERVIEW, identity, {}, fill, content)


def log_shared(
    settings: Tracking,
    mode: str,
    sweep: Path,
    record: Path,
    identity: Identity,
    config: Mapping[str, object],
    fill: Callable[[wandb.Run], None],
    content: str = "",
) -> None:
    """Log what stands for several runs, unless the W&B run that ``record`` names shows the same.

    Args:
        mode: as ``client_mode`` says.
        record: a folder; processes of the sweep take turns at it.
        content: hash of what is shown; empty where the folder's name says it.
    """
    if mode == "disabled":
        return
    try:
        record.mkdir(parents=True, exist_ok=True)
        with FileLock(record / ".wandb.lock"):
            if is_logged(record, content):
                return
            if (stored := read_logged(record)) is not None:  # the same W&B run shows what is new
                identity = replace(identity, id=stored.id)
            with wandb_run(settings, mode, settings.parent(sweep), identity, config) as run:
                fill(run)
            write_logged(record, LoggedRun(run.id, mode, str(run.settings.sync_dir), content))
    except Exception as error:
        reason = redacted(f"{type(error).__name__}: {error}")
        restart_client()
        warnings.warn(f"{identity.name} was not tracked by W&B ({reason}); nothing else is lost", stacklevel=3)
