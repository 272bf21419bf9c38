"""What finished sweeps hold, world by world: a world is a family of specialists, a contender a method in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from esmerge.calibration.api import STATISTICS
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.merging.api import MERGES
from esmerge.report.load import Row, SweepResults, flatten, load_sweep
from esmerge.report.methods import MERGED, row_rank, row_title
from esmerge.report.statistics import Column, headline
from esmerge.tracking.store import RunFolder

ENOUGH = 0.5  # of the contenders of the seed that most have: a seed that fewer have is still being run
WEIGHTS, PROBE, TASK = "weights", "weights and probe", "the task or its questions"
INFORMATION = (WEIGHTS, PROBE, TASK)  # from least to most


@dataclass(frozen=True)
class Contender:
    """A method under one set of settings in one world.

    Attributes:
        title: with the settings that are not the published ones, without a word on tuning.
        tuned: whether its settings were chosen on labelled validation questions.
        runs: seed -> its finished run.
        reads: one of ``INFORMATION``; empty for what merges nothing.
    """

    method: str
    record: MethodRecord
    title: str
    tuned: bool
    runs: Mapping[str, RunFolder]
    reads: str = ""

    @property
    def competes(self) -> bool:
        """Whether it ranks: controls, references and what knows the task do not."""
        return self.record.kind in MERGED


@dataclass(frozen=True)
class World:
    """A family of specialists and what was asked of everyone in it.

    Attributes:
        columns: one per family of benchmarks.
        seeds: that everyone in ``contenders`` has.
        contenders: in table order.
        incomplete: what lacks a seed, in words.
    """

    name: str
    columns: tuple[Column, ...]
    seeds: tuple[str, ...]
    contenders: tuple[Contender, ...]
    incomplete: tuple[str, ...] = ()

    def of(self, tuned: bool) -> tuple[Contender, ...]:
        """Published settings or tuned ones; references count as published."""
        return tuple(contender for contender in self.contenders if contender.tuned is tuned)


def load_worlds(folders: Iterable[Path | str]) -> list[World]:
    """The worlds of sweeps, in the order in which they come up; runs that several folders hold count once.

    Raises:
        StoreError: a folder is absent or damaged.
    """
    contenders: dict[str, dict[tuple[str, bool], Contender]] = {}
    columns: dict[str, tuple[Column, ...]] = {}
    for folder in folders:
        sweep = load_sweep(folder)
        for name, part in _by_world(sweep).items():
            columns[name] = max(columns.get(name, ()), tuple(headline(part)), key=_breadth)
            titles = [_title(row, sweep) for row in part.rows]
            for row, title in zip(part.rows, titles, strict=True):
                title = title if titles.count(title) == 1 or row.tuned else row.title
                same = contenders.setdefault(name, {})
                contender = _contender(row, title, sweep)
                before = same.get((title, row.tuned))
                runs = {**contender.runs, **(before.runs if before else {})}
                same[title, row.tuned] = replace(contender, runs=runs)
    return [_world(name, columns[name], list(same.values())) for name, same in contenders.items()]


def information(method: str) -> str:
    """What a merge reads beyond the adapters, as its registration says; empty for what is no merge."""
    if method not in MERGES.names():
        return ""
    info = MERGES.get(method).info
    if info.per_task or any(STATISTICS.get(name).info.questions for name in info.needs):
        return TASK
    return PROBE if info.needs_probe else WEIGHTS


def _by_world(sweep: SweepResults) -> dict[str, SweepResults]:
    """Specialists -> the sweep as if it held these alone; floors know no specialists and are left out."""
    worlds = dict(zip(sweep.results["run"], sweep.results["specialists"], strict=True))
    parts = {}
    for name in dict.fromkeys(filter(None, worlds.values())):
        results = sweep.results[sweep.results["specialists"] == name]
        benchmarks = tuple(each for each in sweep.benchmarks if each.name in set(results["benchmark"]))
        rows = tuple(row for row in sweep.rows if worlds[row.key] == name and row.kind is not MethodKind.FLOOR)
        parts[name] = replace(sweep, results=results, benchmarks=benchmarks, rows=rows)
    return parts


def _breadth(columns: tuple[Column, ...]) -> int:
    return sum(len(column.benchmarks) for column in columns)


def _title(row: Row, sweep: SweepResults) -> str:
    """The method, its space, and what its settings have beside the published ones."""
    config = sweep.configs[row.key]
    published = _published(row.method)
    other = [
        f"{key.removeprefix('method.')}={config[key]}"
        for key, value in published.items()
        if config.get(key, value) != value
    ]
    return row_title(row.record.title, row.granularity, row.merge_space, *other)


def _published(method: str) -> dict[str, str]:
    """Dotted names of a merge's settings -> the published values as text; nothing for what is no merge."""
    if method not in MERGES.names():
        return {}
    return flatten({"method": asdict(MERGES.get(method).settings())})


def _contender(row: Row, title: str, sweep: SweepResults) -> Contender:
    runs = {seed.partition(" ")[0]: sweep.run(name) for seed, name in reversed(row.runs.items())}
    return Contender(row.method, row.record, title, row.tuned, runs, information(row.method))


def _world(name: str, columns: tuple[Column, ...], contenders: list[Contender]) -> World:
    names = {benchmark for column in columns for benchmark in column.benchmarks}
    answered = {id(each): _complete(each, names) for each in contenders}
    counts: dict[str, int] = {}
    for seeds in answered.values():
        for seed in seeds:
            counts[seed] = counts.get(seed, 0) + 1
    most = max(counts.values(), default=0)
    seeds = sorted(
        (seed for seed, count in counts.items() if count >= ENOUGH * most), key=lambda seed: (len(seed), seed)
    )
    lacking = {id(each): [seed for seed in seeds if seed not in answered[id(each)]] for each in contenders}
    whole = [each for each in contenders if not lacking[id(each)]]
    incomplete = [
        f"{each.title}{', tuned' * each.tuned} (seed {', '.join(lacking[id(each)])})"
        for each in contenders
        if lacking[id(each)]
    ]
    whole.sort(key=lambda each: (row_rank(each.record, each.method), each.tuned))
    return World(name, columns, tuple(seeds), tuple(whole), tuple(incomplete))


def _complete(contender: Contender, benchmarks: set[str]) -> set[str]:
    """The seeds whose run answers every benchmark."""
    return {
        seed
        for seed, run in contender.runs.items()
        if benchmarks <= {path.stem for path in (run.path / "predictions").glob("*.csv")}
    }
