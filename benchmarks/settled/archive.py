"""A folder that keeps what a page needs of its runs, small enough for the repository.

New seeds are added to it, and who doubts a number counts again without running a sweep.

    contenders.json       what was asked, everyone's title, costs, tuning trials, and what made each run
    WORLD.seedN.parquet   a line for each question: benchmark, digest of its id, and who was right

It holds no question, label or answer, so none of the tables' data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.settled.runs import FinishedRun, Marks
from benchmarks.settled.worlds import Contender, Part, is_ours

from esmerge.core.errors import StoreError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.core.text_files import read_text
from esmerge.report.evaluated import EvaluatedBenchmark
from esmerge.storage.files import replacing, write_json

INDEX = "contenders.json"
KEYS = ["benchmark", "question"]


def is_archive(folder: Path) -> bool:
    """Whether a folder is one of these and no sweep."""
    return (folder / INDEX).is_file()


def write_archive(parts: Sequence[Part], folder: Path) -> None:
    """Keep what parts of worlds say; several parts of one world, and several runs under one seed, become one.

    Raises:
        StoreError: runs of one world and seed were asked different questions.
    """
    worlds: dict[str, list[Part]] = {}
    for part in parts:
        worlds.setdefault(part.world, []).append(part)
    index = []
    for name, world_parts in worlds.items():
        benchmarks = {entry.name: entry for part in world_parts for entry in part.benchmarks}
        everyone = _united(entry for part in world_parts for entry in part.contenders)
        digests: dict[str, dict[str, str]] = {}
        for seed in sorted({seed for entry in everyone for seed in entry.runs}):
            marks = {_key(entry): entry.runs[seed][0].marks for entry in everyone if seed in entry.runs}
            digests[seed] = _asked(marks, f"{name}, seed {seed}")
            with replacing(folder / f"{name}.seed{seed}.parquet") as partial:
                _table(marks, digests[seed]).to_parquet(partial, index=False)
        index.append({"world": name, "benchmarks": [asdict(entry) for entry in benchmarks.values()], "asked": digests,
                      "contenders": [_described(entry) for entry in everyone]})  # fmt: skip
    write_json(folder / INDEX, {"worlds": index})


def read_archive(folder: Path) -> list[Part]:
    """What ``write_archive`` kept.

    Raises:
        StoreError: a file is absent or damaged.
    """
    path = folder / INDEX
    try:
        worlds = json.loads(read_text(path))["worlds"]
        return [_part(world, folder) for world in worlds]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise StoreError(
            f"{folder} is damaged ({type(error).__name__}: {error}): take it anew from the repository, or write it "
            "again from the sweeps with --archive"
        ) from error


def _united(contenders: Iterable[Contender]) -> list[Contender]:
    """Each title once, with one run for a seed: benchmarks that a later run alone answers are added to the first's."""
    by_key: dict[str, Contender] = {}
    for contender in contenders:
        before = by_key.get(_key(contender))
        runs = dict(before.runs) if before else {}
        for seed, several in contender.runs.items():
            for run in several:
                first = runs[seed][0] if seed in runs else run
                runs[seed] = (replace(first, marks={**run.marks, **first.marks}),)
        by_key[_key(contender)] = replace(before or contender, runs=runs)
    return list(by_key.values())


def _key(contender: Contender) -> str:
    return contender.title + ", tuned" * contender.tuned


def _asked(marks: Mapping[str, Mapping[str, Marks]], source: str) -> dict[str, str]:
    """Benchmark -> digest of its questions and labels."""
    digests: dict[str, str] = {}
    for title, by_benchmark in marks.items():
        for benchmark, benchmark_marks in by_benchmark.items():
            if digests.setdefault(benchmark, benchmark_marks.asked) != benchmark_marks.asked:
                raise StoreError(
                    f"{source}: {title} was asked other questions on {benchmark} than the others: keep sweeps with "
                    "other limits or splits in an archive of their own"
                )
    return digests


def _table(marks: Mapping[str, Mapping[str, Marks]], digests: Mapping[str, str]) -> pd.DataFrame:
    """A line for each question, a column for everyone: right, wrong, or not asked."""
    blocks = []
    for benchmark in digests:
        answered = {
            title: by_benchmark[benchmark] for title, by_benchmark in marks.items() if benchmark in by_benchmark
        }
        questions = next(iter(answered.values())).questions
        block = {"benchmark": [benchmark] * len(questions), "question": questions}
        unasked = pd.array([None] * len(questions), dtype="boolean")
        block |= {title: pd.array(answered[title].right) if title in answered else unasked for title in marks}
        blocks.append(pd.DataFrame(block))
    return pd.concat(blocks, ignore_index=True)


def _described(contender: Contender) -> dict[str, Any]:
    runs = {
        seed: {
            "seconds": run.seconds,
            "trials": [None if math.isnan(accuracy) else accuracy for accuracy in run.trials],
            **run.made_by,
        }
        for seed, (run, *_) in contender.runs.items()
    }
    return {"key": _key(contender), "method": contender.method, "title": contender.title, "tuned": contender.tuned,
            "reads": contender.reads, "record": asdict(contender.record), "runs": runs}  # fmt: skip


def _part(world: Mapping[str, Any], folder: Path) -> Part:
    name, digests = world["world"], world["asked"]
    tables = {seed: pd.read_parquet(folder / f"{name}.seed{seed}.parquet") for seed in digests}
    contenders = []
    for entry in world["contenders"]:
        runs = {
            seed: (_run(facts, tables[seed], entry["key"], digests[seed]),) for seed, facts in entry["runs"].items()
        }
        record = MethodRecord(**{**entry["record"], "kind": MethodKind(entry["record"]["kind"])})
        own_choice = is_ours(entry["method"], entry["title"])
        contenders.append(
            Contender(entry["method"], record, entry["title"], entry["tuned"], runs, entry["reads"], own_choice)
        )
    benchmarks = tuple(
        EvaluatedBenchmark(**{**entry, "departures": tuple(entry["departures"])}) for entry in world["benchmarks"]
    )
    return Part(name, benchmarks, tuple(contenders))


def _run(facts: Mapping[str, Any], table: pd.DataFrame, key: str, digests: Mapping[str, str]) -> FinishedRun:
    answered = table.loc[table[key].notna(), [*KEYS, key]]
    marks = {
        benchmark: Marks(lines["question"].to_numpy(np.uint64), lines[key].to_numpy(bool), digests[benchmark])
        for benchmark, lines in answered.groupby("benchmark", sort=False)
    }
    made_by = {name: value for name, value in facts.items() if name not in ("seconds", "trials")}
    return FinishedRun(marks, facts["seconds"], tuple(math.nan if t is None else t for t in facts["trials"]), made_by)
