"""A sweep folder as rows and columns of a table; nothing is computed that is not stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.report.methods import row_rank, row_title
from esmerge.tracking.results import collect, run_folders, unfinished
from esmerge.tracking.store import RunFolder, Status

VARIANT_AXES = ("specialists", "method", "granularity", "probe", "merge_space")
FAMILIES = {
    "cross_modal": "Cross-modal",
    "drug_drug": "Drug\N{EN DASH}drug",
    "single_modal": "Single-modal",
    "retention": "Retention",
}
FINENESS = {"layer": 1, "element": 2, "joint": 3}
PUBLISHED, TUNED = "Published settings", "Settings tuned on the validation split"
WHOLE_SPLIT = "published"  # the table's own split: the only one that others were asked on
PARTIAL = re.compile(r"\((.*\b(?:subset|partial|only)\b.*)\)")  # how the title of a table that is not whole says so
NOT_A_SETTING = ("seed", "run", "out", "folder", "tracking", "hydra", "name")


@dataclass(frozen=True)
class EvaluatedBenchmark:
    """One benchmark as the runs of a sweep were evaluated on it.

    Attributes:
        departures: what tells its questions from those of a published number, over all runs: a sample of them, a
            split made here, a table that is not whole. Empty where they are the same, or where nothing was stored.
    """

    name: str
    title: str
    family: str
    departures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One method under one set of settings; one run per seed.

    Attributes:
        record: what its runs say of the method.
        runs: seed -> run name.
        tuned: whether its settings were chosen on the validation split.
    """

    method: str
    record: MethodRecord
    granularity: str
    merge_space: str
    title: str
    runs: Mapping[str, str]
    tuned: bool = False

    @property
    def kind(self) -> MethodKind:
        return self.record.kind

    @property
    def key(self) -> str:
        """Unique and stable: the first run's name."""
        return next(iter(self.runs.values()))


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
        failures: runs that are not done -> their status.
        configs: finished run -> dotted name of a setting -> its value as text; see ``flatten``.
    """

    folder: Path
    results: pd.DataFrame
    benchmarks: tuple[EvaluatedBenchmark, ...]
    rows: tuple[Row, ...]
    failures: Mapping[str, Status]
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of_kind(self, *kinds: MethodKind) -> list[Row]:
        """The rows of some blocks, in table order."""
        return [row for row in self.rows if row.kind in kinds]

    def parts(self) -> dict[str, SweepResults]:
        """Published and tuned settings apart, each beside the floors and references; one part if nothing is tuned."""
        if not any(row.tuned for row in self.rows):
            return {"": self}
        beside = (MethodKind.FLOOR, MethodKind.REFERENCE)
        tuned = tuple(row for row in self.rows if row.tuned or row.kind in beside)
        published = tuple(row for row in self.rows if not row.tuned)
        return {PUBLISHED: replace(self, rows=published), TUNED: replace(self, rows=tuned)}

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


def load_sweep(folder: Path | str) -> SweepResults:
    """Read a sweep folder.

    Raises:
        StoreError: it is absent or damaged, or a finished run does not say what its method is.
    """
    results, broken = _without_broken_runs(collect(folder))
    runs = {run.name: run for run in run_folders(folder)}
    names = results["run"].unique()
    benchmarks = _benchmarks(results, [runs[name].read_benchmarks() for name in names])
    configs = {name: flatten(runs[name].read_config()) for name in names}
    records = {name: runs[name].read_method() for name in names}
    failures = {**unfinished(folder), **broken}
    return SweepResults(Path(folder), results, benchmarks, tuple(_rows(results, configs, records)), failures, configs)


def _without_broken_runs(results: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Status]]:
    """The rows of runs whose accuracies are all numbers, and the other runs as failed ones: they must not rank."""
    values = pd.to_numeric(results["value"])
    bad = results[(results["metric"] == "accuracy") & ~np.isfinite(values)]
    reasons = {
        run: f"accuracy on {name} is not a number" for run, name in zip(bad["run"], bad["benchmark"], strict=True)
    }
    rows = results[~results["run"].isin(reasons)].reset_index(drop=True)
    return rows, {run: Status("failed", reason) for run, reason in reasons.items()}


def departures(description: Mapping[str, object]) -> list[str]:
    """What tells a benchmark's questions from those of a published number.

    Args:
        description: as ``benchmarks.json`` holds it; ``limit`` and ``split`` may be absent or None.
    """
    partial = PARTIAL.search(str(description["title"]))
    limit, split = description.get("limit"), description.get("split")
    return [
        *([f"table: {partial[1]}"] if partial else []),
        *([f"at most {limit} test questions (benchmark.limit={limit})"] if limit is not None else []),
        *([f"split made here (benchmark.split={split})"] if split not in (None, WHOLE_SPLIT) else []),
    ]


def flatten(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Dotted name -> value as text, without what says where a run lives or which seed it has."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if key in NOT_A_SETTING:
            continue
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _benchmarks(
    results: pd.DataFrame, descriptions: Iterable[Mapping[str, Mapping[str, object]]]
) -> tuple[EvaluatedBenchmark, ...]:
    """The benchmarks of all runs by family, with what the runs' ``benchmarks.json`` say of them."""
    by_name: dict[str, EvaluatedBenchmark] = {}
    for of_run in descriptions:
        for name, description in of_run.items():
            first = EvaluatedBenchmark(name, str(description["title"]), str(description["family"]))
            benchmark = by_name.setdefault(name, first)
            union = dict.fromkeys([*benchmark.departures, *departures(description)])
            by_name[name] = replace(benchmark, departures=tuple(union))
    for name in results["benchmark"].unique():
        by_name.setdefault(name, EvaluatedBenchmark(name, name, "other"))
    families = [*FAMILIES, *sorted({benchmark.family for benchmark in by_name.values()} - set(FAMILIES))]
    return tuple(sorted(by_name.values(), key=lambda benchmark: families.index(benchmark.family)))  # a stable sort


def _rows(
    results: pd.DataFrame, configs: Mapping[str, Mapping[str, str]], records: Mapping[str, MethodRecord]
) -> list[Row]:
    """One row per method and settings, over the seeds; settings that tell rows apart go into the title."""
    runs = results.drop_duplicates("run")
    runs = runs.assign(tuned=["tuning.trials" in configs[name] for name in runs["run"]])
    several = [axis for axis in ("specialists", "probe") if len(set(runs[axis]) - {""}) > 1]
    rows = []
    for axes, same in runs.groupby([*VARIANT_AXES, "tuned"], sort=False):
        named = dict(zip(VARIANT_AXES, (str(axis) for axis in axes[:-1]), strict=True))
        tuned = bool(axes[-1])
        same_axes = {name: configs[name] for name in same["run"]}
        telling = _differing(same_axes)
        extra = (*(named[axis] for axis in several), *(["tuned"] if tuned else []))
        groups: dict[tuple[str, ...], dict[str, str]] = {}
        for run, seed in zip(same["run"], same["seed"], strict=True):
            settings = tuple(_setting(key, same_axes[run].get(key, "?")) for key in telling)
            runs_of = groups.setdefault(settings, {})
            runs_of[seed if seed not in runs_of else f"{seed} ({run})"] = run
        for settings, by_seed in groups.items():
            space, fine = named["merge_space"], named["granularity"]
            record = records[next(iter(by_seed.values()))]
            title = row_title(record.title, fine, space, *extra, *settings)
            rows.append(Row(named["method"], record, fine, space, title, by_seed, tuned))
    return sorted(rows, key=lambda row: (row_rank(row.record, row.method), FINENESS.get(row.granularity, 0), row.tuned))


def _setting(key: str, value: str) -> str:
    """A setting as it stands in a row's title."""
    if key == "benchmark.shots":
        return f"{0 if value == 'None' else value}-shot"  # null: as the benchmarks' files say, which is none
    return f"{key.removeprefix('method.')}={value}"


def _differing(configs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Settings whose values differ between runs that share every axis."""
    keys = sorted({key for config in configs.values() for key in config})
    return [key for key in keys if len({config.get(key) for config in configs.values()}) > 1]
