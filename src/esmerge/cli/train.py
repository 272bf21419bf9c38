"""Front door: train a specialist set, or take it from the cache. ``python -m src.train specialists=textbook``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from esmerge.adapters.peft_folder import save_adapter
from esmerge.cli.common import quiet
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.storage.cache import Cache


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def job(config: DictConfig) -> None:
    """Train what the cache lacks, and copy the adapters out if a folder is named."""
    raw = plain(config)
    try:
        selection = choose(SPECIALISTS, raw["specialists"], "specialists")
        cache = Cache(Path(raw["cache"]))
        if raw["retrain"]:
            _forget(cache, raw["retrain"])
        specialists = selection.entry.function(selection.settings, Context(raw["seed"], cache, raw["device"]))
        if raw["out"]:
            for name, state in specialists.adapters.items():
                save_adapter(state, Path(raw["out"]) / name)
    except BenchError as error:
        sys.exit(f"error: {error}")
    screen = Console()
    screen.print(f"{specialists.name}: backbone {specialists.backbone.name}")
    for name, state in specialists.adapters.items():
        screen.print(f"  {name}: {len(state.modules)} adapted modules, perceives {specialists.expert_modality[name]}")
    for name, value in specialists.metadata.items():
        screen.print(f"  {name}: {value}")


def _forget(cache: Cache, stages: list[str]) -> None:
    """Remove stages from the cache by the name of their kind, so that they are made again."""
    for kind in stages:
        folder = cache.root / kind
        if not folder.is_dir():
            cached = ", ".join(sorted(path.name for path in cache.root.glob("*"))) or "nothing yet"
            raise BenchError(f"retrain names {kind!r}, which the cache does not hold: it holds {cached}")
        shutil.rmtree(folder)


def main() -> None:
    """Quiet libraries, then the job."""
    quiet()
    job()


if __name__ == "__main__":
    main()
