"""A sweep folder as rows and columns of a table; nothing is computed that is not stored."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.report.evaluated import EvaluatedBenchmark, evaluated_benchmarks
from esmerge.report.methods import row_rank, row_title
from esmerge.report.stored_answers import StoredAnswers
from esmerge.report.worlds import Worlds, setting
from esmerge.tracking.planned import read_plan
from esmerge.tracking.results import CollectedRuns, collect_runs, run_folders
from esmerge.tracking.store import RunFolder, Status

VARIANT_AXES = ("specialists", "method", "granularity", "probe", "merge_space")
FINENESS = {"layer": 1, "element": 2, "joint": 3}
PUBLISHED, TUNED = "Published settings", "Settings tuned on the validation split"
NOT_A_SETTING = ("seed", "run", "out", "folder", "tracking", "hydra", "name")  # of a run


@dataclass(frozen=True)
class Row:
    """One method under one set of settings; one run per seed.

    Attributes:
        record: what its runs say of the method.
        runs: seed -> run name.
        tuned: whether its settings were chosen on the validation split.
        world: of its specialists and questions, where a sweep has several; see ``SweepResults.worlds``.
        title_in_world: without what tells worlds apart, for what shows one world alone.
    """

    method: str
    record: MethodRecord
    granularity: str
    merge_space: str
    title: str
    runs: Mapping[str, str]
    tuned: bool = False
    world: str = ""
    title_in_world: str = ""

    @property
    def kind(self) -> MethodKind:
        return self.record.kind

    @property
    def key(self) -> str:
        """Unique and stable: the first run's name."""
        return next(iter(self.runs.values()))

    @property
    def seeds(self) -> frozenset[str]:
        """What its means are over."""
        return frozenset(self.runs)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one run on one benchmark, its 95 % interval, and the number of examples."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SweepResults:
    """What a sweep folder holds.

    Attributes:
        results: the rows of ``results.csv``.
        benchmarks: in table order, by family.
        rows: in table order.
        answers: predictions, each file read at most once; parts of one sweep share them.
        failures: runs that are not done -> their status.
        awaited: runs of the last command's plan that nobody has begun.
        configs: finished run -> dotted name of a setting -> its value as text; see ``flatten``.
    """

    folder: Path
    results: pd.DataFrame
    benchmarks: tuple[EvaluatedBenchmark, ...]
    rows: tuple[Row, ...]
    answers: StoredAnswers
    failures: Mapping[str, Status]
    awaited: tuple[str, ...] = ()
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def of_kind(self, *kinds: MethodKind) -> list[Row]:
        """The rows of some blocks, in table order."""
        return [row for row in self.rows if row.kind in kinds]

    def worlds(self) -> dict[str, SweepResults]:
        """Rows that were asked the same questions by specialists of one family; one world if the sweep has no other.

        Rows of two worlds share ids, not questions: neither a best of them nor a paired test would mean anything.
        """
        keys = {row.key: row.world for row in self.rows}
        if len(set(keys.values())) < 2:
            return {"": self}
        return {world: self._only(world) for world in dict.fromkeys(sorted(keys.values()))}

    def parts(self) -> dict[str, SweepResults]:
        """Worlds apart, and in each published and tuned settings, beside the floors and references; one part if there
        is nothing to tell apart."""
        return {
            ": ".join(filter(None, [world, title])): part
            for world, of_world in self.worlds().items()
            for title, part in of_world._by_tuning().items()
        }

    def with_titles_in_world(self) -> SweepResults:
        """The same of one world, whose name no title repeats."""
        rows = tuple(replace(row, title=row.title_in_world or row.title) for row in self.rows)
        return replace(self, rows=rows, memo={})

    def _by_tuning(self) -> dict[str, SweepResults]:
        if not any(row.tuned for row in self.rows):
            return {"": self}
        beside = (MethodKind.FLOOR, MethodKind.REFERENCE)
        tuned = tuple(row for row in self.rows if row.tuned or row.kind in beside)
        published = tuple(row for row in self.rows if not row.tuned)
        return {PUBLISHED: replace(self, rows=published), TUNED: replace(self, rows=tuned)}

    def _only(self, world: str) -> SweepResults:
        rows = tuple(row for row in self.rows if row.world == world)
        runs = {run for row in rows for run in row.runs.values()}
        results = self.results[self.results["run"].isin(runs)]
        names = set(results["benchmark"])
        benchmarks = tuple(benchmark for benchmark in self.benchmarks if benchmark.name in names)
        return replace(self, rows=rows, results=results, benchmarks=benchmarks)

    def run(self, name: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.folder / name)

    def accuracy(self, run: str, benchmark: str) -> Accuracy | None:
        """The accuracy of one run on one benchmark as ``results.csv`` has it; None if it does not."""
        return self._accuracies.get((run, benchmark))

    @cached_property
    def _accuracies(self) -> dict[tuple[str, str], Accuracy]:
        rows = self.results[self.results["metric"] == "accuracy"].to_dict("records")
        return {
            (row["run"], row["benchmark"]): Accuracy(row["value"], row["ci_low"], row["ci_high"], int(row["n"]))
            for row in rows
        }


def load_sweep(folder: Path | str, collected: CollectedRuns | None = None) -> SweepResults:
    """Read a sweep folder.

    Args:
        collected: its runs, where they have just been read.

    Raises:
        StoreError: it is absent or damaged, or a finished run does not say what its method is.
    """
    collected = collected or collect_runs(folder)
    results, broken = _without_broken_runs(collected.results)
    runs = {run.name: run for run in run_folders(folder)}
    names = results["run"].unique()
    benchmarks = evaluated_benchmarks(results, [runs[name].read_benchmarks() for name in names])
    configs = {name: flatten(runs[name].read_config()) for name in names}
    records = {name: runs[name].read_method() for name in names}
    failures = {**collected.unfinished(), **broken}
    plan = read_plan(Path(folder))
    awaited = tuple(name for name in plan.kinds if name not in collected.outcomes) if plan else ()
    rows = tuple(_rows(results, configs, records))
    answers = StoredAnswers(Path(folder))
    return SweepResults(Path(folder), results, benchmarks, rows, answers, failures, awaited, configs)


def _without_broken_runs(results: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Status]]:
    """The rows of runs whose accuracies are all numbers, and the other runs as failed ones: they must not rank."""
    values = pd.to_numeric(results["value"])
    bad = results[(results["metric"] == "accuracy") & ~np.isfinite(values)]
    reasons = {
        run: f"accuracy on {name} is not a number" for run, name in zip(bad["run"], bad["benchmark"], strict=True)
    }
    rows = results[~results["run"].isin(reasons)].reset_index(drop=True)
    return rows, {run: Status("failed", reason) for run, reason in reasons.items()}


def flatten(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Dotted name -> value as text, without what says where a run lives or which seed it has, and a group's own name.

    Below that a name, a folder or a seed is a setting: of an encoder, of a probe.
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if (not prefix and key in NOT_A_SETTING) or (prefix.count(".") == 1 and key == "name"):
            continue
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _rows(
    results: pd.DataFrame, configs: Mapping[str, Mapping[str, str]], records: Mapping[str, MethodRecord]
) -> list[Row]:
    """One row per method and settings, over the seeds; settings that tell rows apart name and order them."""
    runs = results.drop_duplicates("run")
    runs = runs.assign(tuned=["tuning.trials" in configs[name] for name in runs["run"]])
    several = [axis for axis in ("specialists", "probe") if len(set(runs[axis]) - {""}) > 1]
    worlds, rows = Worlds(results, configs), []
    for axes, group_runs in runs.groupby([*VARIANT_AXES, "tuned"], sort=False):
        named = dict(zip(VARIANT_AXES, (str(axis) for axis in axes[:-1]), strict=True))
        tuned = bool(axes[-1])
        same_axes = {name: configs[name] for name in group_runs["run"]}
        telling = _differing(same_axes)
        labels = (*(named[axis] for axis in several if axis != "specialists"), *(["tuned"] if tuned else []))
        extra = (named["specialists"], *labels) if "specialists" in several else labels
        groups: dict[tuple[str, ...], dict[str, str]] = {}
        in_world: dict[tuple[str, ...], tuple[str, ...]] = {}
        order: dict[tuple[str, ...], list[tuple[int, float, str]]] = {}
        for run, seed in zip(group_runs["run"], group_runs["seed"], strict=True):
            values = {key: setting(same_axes[run], key) or "?" for key in telling}
            settings = tuple(_setting(key, value) for key, value in values.items())
            short_settings = tuple(_setting(key, values[key]) for key in telling if key not in worlds.settings)
            if seed in groups.get(settings, {}):  # nothing that is shown tells them apart, and no seed counts twice
                settings, short_settings = (*settings, run), (*short_settings, run)
            in_world[settings] = short_settings
            order[settings] = [_order(value) for value in values.values()]
            groups.setdefault(settings, {})[seed] = run
        for settings, by_seed in sorted(groups.items(), key=lambda group: order[group[0]]):
            space, fine = named["merge_space"], named["granularity"]
            record = records[next(iter(by_seed.values()))]
            title = row_title(record.title, fine, space, *extra, *settings)
            short = row_title(record.title, fine, space, *labels, *in_world[settings])
            world = worlds.heading(next(iter(by_seed.values())))
            rows.append(Row(named["method"], record, fine, space, title, by_seed, tuned, world, short))
    return sorted(rows, key=lambda row: (row_rank(row.record, row.method), FINENESS.get(row.granularity, 0), row.tuned))


def _setting(key: str, value: str) -> str:
    """A setting as it stands in a row's title."""
    if key == "benchmark.shots":
        return f"{0 if value == 'None' else value}-shot"  # null: as the benchmarks' files say, which is none
    return f"{key.removeprefix('method.')}={value}"


def _order(value: str) -> tuple[int, float, str]:
    """Sort key of a setting's value: none, then numbers by size, then words."""
    number = as_number(value)
    return (0, 0.0, "") if value == "None" else (2, 0.0, value) if number is None else (1, number, "")


def as_number(text: str) -> float | None:
    """A setting's value, if it is a finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _differing(configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Settings whose values differ between runs that share every axis."""
    keys = sorted({key for config in configs.values() for key in config})
    return [key for key in keys if len({config.get(key) for config in configs.values()}) > 1]
