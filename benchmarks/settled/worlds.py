"""What finished runs say, world by world: a world is a family of specialists, a contender a method in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.settled.runs import FinishedRun, Marks, read_run

from esmerge.calibration.api import STATISTICS
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.merging.api import MERGES
from esmerge.report.evaluated import FAMILIES, EvaluatedBenchmark
from esmerge.report.load import Row, SweepResults, flatten, load_sweep
from esmerge.report.methods import MERGED, row_rank, row_title
from esmerge.report.statistics import Column, family_columns
from esmerge.report.tidy.accuracies import CROSS_MODAL

ENOUGH = 0.5  # of the contenders of the seed that most have: a seed that fewer have is still being run
WEIGHTS, PROBE, TASK = "weights", "weights and probe", "the task or its questions"
INFORMATION = (WEIGHTS, PROBE, TASK)  # from least to most


@dataclass(frozen=True)
class Contender:
    """A method under one set of settings in one world.

    Attributes:
        title: with the settings that are not the published ones, without a word on tuning.
        tuned: whether its settings were chosen on labelled validation questions.
        runs: seed -> its finished runs: several where one sweep asked some benchmarks and another the others.
        reads: one of ``INFORMATION``; empty for what merges nothing.
        is_ours: whether one of its settings is this project's choice in its authors' place.
    """

    method: str
    record: MethodRecord
    title: str
    tuned: bool
    runs: Mapping[str, tuple[FinishedRun, ...]]
    reads: str = ""
    is_ours: bool = False

    @property
    def competes(self) -> bool:
        """Whether it ranks: controls, references and what knows the task do not."""
        return self.record.kind in MERGED

    def marks(self, seed: str, benchmark: str) -> Marks | None:
        """Those of the first run that answers a benchmark under a seed."""
        return next((run.marks[benchmark] for run in self.runs.get(seed, ()) if benchmark in run.marks), None)

    def answers(self, column: Column, seeds: Iterable[str]) -> bool:
        """Whether it has every benchmark of a column under every one of some seeds."""
        return all(self.marks(seed, benchmark) is not None for seed in seeds for benchmark in column.benchmarks)


@dataclass(frozen=True)
class World:
    """A family of specialists and what was asked of everyone in it.

    Attributes:
        columns: one per family of benchmarks.
        main: what decides: the cross-modal mean; without such benchmarks, the first family.
        seeds: under which everyone in ``contenders`` answers what decides.
        contenders: in table order.
        incomplete: what lacks a seed, in words.
    """

    name: str
    columns: tuple[Column, ...]
    main: Column
    seeds: tuple[str, ...]
    contenders: tuple[Contender, ...]
    incomplete: tuple[str, ...] = ()

    def of(self, tuned: bool) -> tuple[Contender, ...]:
        """Published settings or tuned ones; references count as published."""
        return tuple(contender for contender in self.contenders if contender.tuned is tuned)


@dataclass(frozen=True)
class Part:
    """What one folder says of one world."""

    world: str
    benchmarks: tuple[EvaluatedBenchmark, ...]
    contenders: tuple[Contender, ...]


def read_sweep_parts(folder: Path | str) -> list[Part]:
    """A sweep, world by world.

    Raises:
        StoreError: the folder is absent or damaged.
    """
    parts = _by_world(load_sweep(folder))
    return [Part(name, sweep.benchmarks, _contenders(sweep)) for name, sweep in parts.items()]


def join_worlds(parts: Iterable[Part], seeds: Sequence[str] = ()) -> list[World]:
    """The worlds of several folders, in their order; what several folders hold counts once.

    Args:
        seeds: under which everyone must have answered; those that most have by default. A world without one of them is
            left out.
    """
    by_name: dict[str, list[Part]] = {}
    for part in parts:
        by_name.setdefault(part.world, []).append(part)
    worlds = [_world(name, _columns(world_parts), _joined(world_parts), seeds) for name, world_parts in by_name.items()]
    return [world for world in worlds if world.contenders or not seeds]


def information(method: str) -> str:
    """What a merge reads beyond the adapters, as its registration says; empty for what is no merge."""
    if method not in MERGES.names():
        return ""
    info = MERGES.get(method).info
    if info.per_task or any(STATISTICS.get(name).info.questions for name in info.needs):
        return TASK
    return PROBE if info.needs_probe else WEIGHTS


def is_ours(method: str, title: str) -> bool:
    """Whether a merge has a default of this project's where its authors have another; a title names other settings."""
    chosen = MERGES.get(method).info.ours if method in MERGES.names() else ()
    return any(f"{key}=" not in title for key in chosen)


def _by_world(sweep: SweepResults) -> dict[str, SweepResults]:
    """Specialists -> the sweep as if it held these alone; floors know no specialists and are left out."""
    worlds = dict(zip(sweep.results["run"], sweep.results["specialists"], strict=True))
    parts = {}
    for name in sorted(set(filter(None, worlds.values()))):
        results = sweep.results[sweep.results["specialists"] == name]
        benchmarks = tuple(benchmark for benchmark in sweep.benchmarks if benchmark.name in set(results["benchmark"]))
        rows = tuple(row for row in sweep.rows if worlds[row.key] == name and row.kind is not MethodKind.FLOOR)
        parts[name] = replace(sweep, results=results, benchmarks=benchmarks, rows=rows)
    return parts


def _columns(parts: Sequence[Part]) -> tuple[Column, ...]:
    """One per family, of the benchmarks of all parts."""
    benchmarks = {benchmark.name: benchmark for part in parts for benchmark in part.benchmarks}
    return tuple(
        family_columns(
            sorted(benchmarks.values(), key=lambda benchmark: [*FAMILIES, benchmark.family].index(benchmark.family))
        )
    )


def _joined(parts: Sequence[Part]) -> list[Contender]:
    """Everyone in the parts of one world, each once."""
    contenders: dict[tuple[str, bool], Contender] = {}
    for contender in (member for part in parts for member in part.contenders):
        key = contender.title, contender.tuned
        before = contenders.get(key)
        if before is not None:
            seeds = {**before.runs, **contender.runs}
            runs = {seed: (*before.runs.get(seed, ()), *contender.runs.get(seed, ())) for seed in seeds}
            contender = replace(before, runs=runs)
        contenders[key] = contender
    return list(contenders.values())


def _contenders(sweep: SweepResults) -> tuple[Contender, ...]:
    """Everyone in a sweep of one world; rows that would have one title keep the table's."""
    titles = [(_title(row, sweep), row.tuned) for row in sweep.rows]
    return tuple(
        _contender(row, title if titles.count((title, tuned)) == 1 else row.title, sweep)
        for row, (title, tuned) in zip(sweep.rows, titles, strict=True)
    )


def _title(row: Row, sweep: SweepResults) -> str:
    """The method, its space, and what its settings have beside the published ones."""
    config = sweep.configs[row.key]
    published = _published(row.method)
    changes = [
        f"{key.removeprefix('method.')}={config[key]}"
        for key, value in published.items()
        if config.get(key, value) != value
    ]
    return row_title(row.record.title, row.granularity, row.merge_space, *changes)


def _published(method: str) -> dict[str, str]:
    """Dotted names of a merge's settings -> the published values as text; nothing for what is no merge."""
    if method not in MERGES.names():
        return {}
    return flatten({"method": asdict(MERGES.get(method).settings())})


def _contender(row: Row, title: str, sweep: SweepResults) -> Contender:
    runs: dict[str, tuple[FinishedRun, ...]] = {}
    for key, name in row.runs.items():
        seed = key.partition(" ")[0]  # a second run under one seed is told apart by its name
        runs[seed] = (*runs.get(seed, ()), read_run(sweep.run(name)))
    own_choice = is_ours(row.method, title)
    return Contender(row.method, row.record, title, row.tuned, runs, information(row.method), own_choice)


def _world(
    name: str, columns: tuple[Column, ...], contenders: list[Contender], chosen_seeds: Sequence[str] = ()
) -> World:
    """Who has every seed, and who lacks which."""
    main = next((column for column in columns if column.family == CROSS_MODAL), columns[0])
    seeds = tuple(chosen_seeds) or _frequent(main, contenders)
    complete = [entry for entry in contenders if seeds and entry.answers(main, seeds)]
    complete.sort(key=lambda entry: (row_rank(entry.record, entry.method), entry.tuned))
    incomplete = [
        f"{entry.title}{', tuned' * entry.tuned} (seed {', '.join(s for s in seeds if not entry.answers(main, [s]))})"
        for entry in contenders
        if not entry.answers(main, seeds)
    ]
    return World(name, columns, main, seeds, tuple(complete), tuple(incomplete))


def _frequent(main: Column, contenders: Sequence[Contender]) -> tuple[str, ...]:
    """The seeds that most have answered what decides under."""
    counts = Counter(seed for contender in contenders for seed in contender.runs if contender.answers(main, [seed]))
    frequent = [seed for seed, count in counts.items() if count >= ENOUGH * max(counts.values())]
    return tuple(sorted(frequent, key=lambda seed: (len(seed), seed)))
