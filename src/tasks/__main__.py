"""The benchmarks' tables: ``python -m src.tasks list|fetch|verify [NAME …] root=FOLDER``.

``list [BENCHMARK …] root=../shared/data [suite=real] [seed=0] [rejects=FILE]`` (also without the word ``list``) prints
a suite's counts. ``fetch [TABLE …] root=FOLDER [wheel=FILE]`` brings tables from their official sources; without names
it says what there is. ``verify [TABLE …] root=FOLDER`` computes their checksums anew.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config import choose, plain
from src.errors import BenchError, ConfigError
from src.specialists.pieces import Benchmark, Example, Reject
from src.tasks import SOURCES, Request
from src.tasks.assemble import whole
from src.tasks.fetching.commands import fetch, verify
from src.tasks.load import COMMON

CONF = Path(__file__).parents[2] / "conf"
DEFAULTS = {"root": None, "suite": "real", "seed": 0, "language": "english", "limit": None}
OPTIONS: dict[str, dict[str, Any]] = {
    "list": {**DEFAULTS, "rejects": None},
    "fetch": {"root": None, "wheel": None},
    "verify": {"root": None},
}
SHOWN = 5  # refusals of a benchmark that are printed
HEADER = f"{'benchmark':<20}{'train':>16}{'validation':>16}{'test':>16}{'rejects':>9}{'seen in training':>30}  sha256"


def load(config: Any, options: Any) -> Benchmark:
    """One benchmark as its config says, its training and validation splits whole."""
    node = plain(config)
    own = {key: value for key, value in node.items() if key not in COMMON}
    chosen = choose(SOURCES, {**own, "name": config.source}, f"benchmark {config.name}")
    root = node.get("root") if options.root is None else options.root
    facts = {key: node[key] for key in ("name", "title", "family")}
    request = Request(language=options.language, seed=options.seed, limit=options.limit, root=root, **facts)
    return chosen.entry.function(whole(chosen.settings), request)  # type: ignore[no-any-return]


def line(benchmark: Benchmark) -> str:
    """Counts with the share of positive labels for each split, and how much of the test split training has seen."""
    splits = (_count(examples) for examples in (benchmark.train, benchmark.validation, benchmark.test))
    counts = "".join(f"{count:>16}" for count in splits)
    found = dict.fromkeys(entity.modality for entity in benchmark.test[0].entities())
    seen = ", ".join(f"{modality} {seen_in_training(benchmark, modality):.3f}" for modality in found)
    return f"{benchmark.name:<20}{counts}{len(benchmark.rejects):>9}{seen:>30}  {benchmark.checksum}"


def seen_in_training(benchmark: Benchmark, modality: str) -> float:
    """Share of the test examples whose entities of this modality all occur in training: what a model may remember."""
    known = {entity for example in benchmark.train for entity in example.entities(modality)}
    return sum(known.issuperset(example.entities(modality)) for example in benchmark.test) / len(benchmark.test)


def listing(names: Sequence[str], options: Any) -> None:
    """Print the table, one line per benchmark as it is read, and then the first refusals of each.

    Args:
        names: benchmarks of the suite; all of them if empty.
        options: as in ``OPTIONS["list"]``; ``rejects`` is a CSV file for the refusals, written anew.
    """
    suite: Any = OmegaConf.load(CONF / "suite" / f"{_suite(options.suite)}.yaml")
    unknown = [name for name in names if name not in suite.benchmarks]
    if unknown:
        raise ConfigError(f"suite {options.suite} has no {', '.join(unknown)}: it has {', '.join(suite.benchmarks)}")
    print(HEADER)
    refused: list[tuple[str, Reject]] = []
    for name in names or suite.benchmarks:
        benchmark = load(OmegaConf.load(CONF / "benchmark" / f"{name}.yaml"), options)
        print(line(benchmark), flush=True)
        refused += [(name, reject) for reject in benchmark.rejects]
        if options.rejects is not None:
            _write_rejects(Path(options.rejects), refused)
    print("\n".join(_shown(refused)))


def _shown(refused: Sequence[tuple[str, Reject]]) -> list[str]:
    """The first refusals of each benchmark, and how many more there are."""
    lines = []
    for name in dict.fromkeys(name for name, _ in refused):
        mine = [reject for owner, reject in refused if owner == name]
        lines += [f"{name}  {reject.row}: {reject.reason}" for reject in mine[:SHOWN]]
        if len(mine) > SHOWN:
            lines.append(f"{name}  and {len(mine) - SHOWN} more: rejects=FILE writes them all")
    return lines


def main(arguments: list[str]) -> None:
    """Do what the first word says; ``list`` if there is none."""
    words = [argument for argument in arguments if "=" not in argument]
    verb = words.pop(0) if words else "list"
    if verb not in OPTIONS:
        raise ConfigError(f"unknown command {verb!r}: expected {', '.join(OPTIONS)}, then names, then root=FOLDER")
    options = _options(verb, [argument for argument in arguments if "=" in argument])
    if verb == "list":
        listing(words, options)
    elif verb == "fetch":
        fetch(words, options.root, options.wheel)
    else:
        verify(words, options.root)


def _options(verb: str, given: list[str]) -> Any:
    found: Any = OmegaConf.from_cli(given)
    unknown = set(found) - set(OPTIONS[verb])
    if unknown:
        known = ", ".join(OPTIONS[verb])
        raise ConfigError(f"unknown option {', '.join(sorted(map(str, unknown)))}: expected {known}")
    return OmegaConf.merge(OPTIONS[verb], found)


def _suite(name: str) -> str:
    known = sorted(path.stem for path in (CONF / "suite").glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"unknown suite {name!r}: expected one of {', '.join(known)}")
    return name


def _write_rejects(path: Path, refused: Sequence[tuple[str, Reject]]) -> None:
    """All refusals so far as a CSV file, which is never half-written."""
    scratch = path.with_name(f"{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["benchmark", "row", "reason"])
        writer.writerows([name, reject.row, reject.reason] for name, reject in refused)
    os.replace(scratch, path)


def _count(examples: tuple[Example, ...]) -> str:
    share = sum(example.answer == 1 for example in examples) / max(1, len(examples))
    return f"{len(examples)} ({share:.3f})"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
