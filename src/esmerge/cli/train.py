"""Front door: train a specialist set, or take it from the cache. ``python -m src.train specialists=textbook``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from esmerge.adapters.peft_folder import save_adapter
from esmerge.cli.common import quiet
from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.paths import CONF
from esmerge.core.schema import Selection, choose, plain
from esmerge.model.threads import check_threads, use_threads
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.storage.cache import Cache


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def job(config: DictConfig) -> None:
    """Train what the cache lacks, and copy the adapters out if a folder is named."""
    raw = plain(config)
    try:
        selection = choose(SPECIALISTS, raw["specialists"], "specialists")
        check_threads(raw["threads"], "threads")
        use_threads(raw["threads"], raw["device"])
        cache = Cache(Path(raw["cache"]), stages_to_renew(raw["retrain"], selection))
        specialists = selection.entry.function(selection.settings, Context(raw["seed"], cache, raw["device"]))
        check_renewed(cache, selection.settings.stages)
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


def stages_to_renew(retrain: Sequence[str] | str, selection: Selection) -> frozenset[str]:
    """The stages that ``retrain`` names.

    Raises:
        ConfigError: a name is not one of the specialists' stages.
    """
    names, stages = [retrain] if isinstance(retrain, str) else list(retrain), selection.settings.stages
    if unknown := [name for name in names if name not in stages]:
        expected = f"expected some of {', '.join(stages)}" if stages else "these specialists are not trained here"
        raise ConfigError(f"retrain={names}: specialists={selection.name} have no stage {unknown[0]!r}: {expected}")
    return frozenset(names)


def check_renewed(cache: Cache, stages: Sequence[str]) -> None:
    """Raise ``ConfigError`` for a stage that was not made again, since what is made of it is in the cache."""
    if missed := cache.never_renewed():
        later = [stage for stage in stages[stages.index(missed[0]) + 1 :] if stage not in cache.renewed]
        raise ConfigError(
            f"retrain: {missed[0]} was not made again, since nothing asked for it: what is made of it is in the cache; "
            f"name that too: {' or '.join(later)}"
        )


def main() -> None:
    """Quiet libraries, then the job."""
    quiet()
    job()


if __name__ == "__main__":
    main()
