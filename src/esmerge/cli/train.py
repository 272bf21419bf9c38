"""Front door: train specialists, or take what is shipped or cached. ``python -m src.train specialists=textbook``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from esmerge.adapters.peft_folder import save_adapter
from esmerge.cli.command_line import prepare_command_line
from esmerge.cli.common import quiet
from esmerge.cli.composing import start
from esmerge.cli.recorded import recorded_lines
from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.observed import observing
from esmerge.core.paths import CONF, user_path
from esmerge.core.schema import Selection, choose, plain
from esmerge.core.stopping import stoppable
from esmerge.experiment.context import ExperimentContext
from esmerge.experiment.finetuner import FineTuner
from esmerge.experiment.teaching import read_learner, teach
from esmerge.experiment.training_log import log_end, log_taught, training_log
from esmerge.experiment.weights import write_weights
from esmerge.model.threads import check_threads, use_threads
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.storage.cache import Cache, digest
from esmerge.storage.usable import check_folder
from esmerge.tasks.api import SuiteRequest
from esmerge.tasks.load import load_benchmark
from esmerge.tasks.seen import other_lists, write_seen


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def job(config: DictConfig) -> None:
    """Train what is neither shipped nor in the cache, and copy it out where a folder is named."""
    raw = plain(config)
    screen = Console()
    try:
        if raw["specialist"] is not None:
            teach_alone(raw, screen)
            return
        selection = choose(SPECIALISTS, raw["specialists"], "specialists")
        check_threads(raw["threads"], "threads")
        use_threads(raw["threads"], raw["device"])
        folders = {key: user_path(str(raw[key]), key) for key in ("cache", "out", "weights", "seen") if raw[key]}
        for key, folder in folders.items():
            check_folder(folder, key)
        cache = Cache(folders["cache"], stages_to_renew(raw["retrain"], selection))
        log = training_log(raw, selection.name, folders["cache"])
        with observing(log.observe):
            specialists = selection.entry.function(selection.settings, Context(raw["seed"], cache, raw["device"]))
            context = ExperimentContext(specialists, cache, raw["device"], raw["seed"])
            train_references(context, selection, raw["finetuned"])
        check_renewed(cache, selection.settings.stages)
        if "out" in folders:
            for name, state in specialists.adapters.items():
                save_adapter(state, folders["out"] / name)
        if "seen" in folders:
            if not specialists.taught:
                raise ConfigError(f"seen={raw['seen']}: specialists={selection.name} do not say what they were taught")
            lists = write_seen(specialists.taught, folders["seen"])
            for path in lists:
                screen.print(f"{path}: what these specialists were taught, for benchmark.seen", markup=False)
            for path in other_lists(folders["seen"], lists):
                screen.print(f"{path}: was there before; benchmark.seen reads it too", markup=False)
        card: dict[str, object] = {}
        if "weights" in folders:
            card = write_weights(specialists, folders["weights"], made_by(raw["seed"], selection, raw["trained_on"]))
            screen.print(f"{raw['weights']}: exam {card.get('exam', 'none')}")
        log_end(log, specialists, selection.settings, card)
    except BenchError as error:
        sys.exit(f"error: {error}")
    screen.print(f"{specialists.name}: backbone {specialists.backbone.name}", markup=False)
    for name, state in specialists.adapters.items():
        screen.print(
            f"  {name}: {len(state.modules)} adapted modules, perceives {specialists.expert_modality[name]}",
            markup=False,
        )
    for name, value in specialists.metadata.items():
        screen.print("\n".join(recorded_lines(name, value)), markup=False, highlight=False)


def teach_alone(raw: Mapping[str, Any], screen: Console) -> None:
    """Train the specialist that ``specialist`` names, on the user's backbone, and copy it out where a folder is named.

    Raises:
        BenchError: settings, tables or the backbone cannot be used.
    """
    expert = str(raw["specialist"])
    settings = read_learner(raw["specialists"], expert)
    if unused := [key for key in ("weights", "finetuned", "retrain", "seen") if raw[key]]:
        raise ConfigError(f"{', '.join(unused)}: says nothing of one specialist: leave it out with specialist={expert}")
    check_threads(raw["threads"], "threads")
    use_threads(raw["threads"], raw["device"])
    folders = {key: user_path(str(raw[key]), key) for key in ("cache", "out") if raw[key]}
    for key, folder in folders.items():
        check_folder(folder, key)
    log = training_log(raw, f"{raw['specialists']['name']}-{expert}", folders["cache"])
    with observing(log.observe):
        taught = teach(settings, expert, Context(raw["seed"], Cache(folders["cache"]), raw["device"]))
    adapter, backbone = taught.specialists.adapters[expert], taught.specialists.backbone.name
    if "out" in folders:
        save_adapter(adapter, folders["out"] / expert, backbone)
        screen.print(f"{folders['out'] / expert}: for specialists.experts.{expert}", markup=False)
    log_taught(log, taught, settings)
    screen.print(f"{expert}: {len(adapter.modules)} adapted modules on {backbone}", markup=False)
    for name, grade in taught.grades.items():
        screen.print(f"  {name}: {grade}", markup=False)


def train_references(context: ExperimentContext, selection: Selection, names: Sequence[str]) -> None:
    """Train the fine-tuned references of benchmarks of the embedded world.

    Raises:
        ConfigError: there is no such benchmark, or it needs tables.
    """
    settings = selection.settings
    request = SuiteRequest(tuple(names), {}, settings.language, context.seed, settings.embedded_world())
    for name in names:
        FineTuner(context).finetuned(load_benchmark(request, name))


def made_by(seed: int, selection: Selection, trained_on: str | None) -> dict[str, object]:
    """What a card says of the command: its words without folders of this machine, the seed, the settings' hash.

    Args:
        trained_on: another machine that trained what is written here.
    """
    machine = ("cache", "out", "seen", "trained_on", "tracking")
    words = [
        word for word in HydraConfig.get().overrides.task if word.partition("=")[0].partition(".")[0] not in machine
    ]
    settings = asdict(selection.settings)
    settings.pop("retrain", None)  # says where weights come from, not what they are
    return {
        "command": shlex.join(["python", "-m", "src.train", *words]),
        **({"trained_on": trained_on} if trained_on else {}),
        "seed": seed,
        "config_hash": digest(settings),
        "specialists": settings,
    }


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


@stoppable
def main() -> None:
    """Quiet libraries, then the job."""
    quiet()
    prepare_command_line()
    start(job)


if __name__ == "__main__":
    main()
