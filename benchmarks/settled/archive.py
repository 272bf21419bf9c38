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
    for name, same in worlds.items():
        benchmarks = {each.name: each for part in same for each in part.benchmarks}
        everyone = _united(each for part in same for each in part.contenders)
        asked: dict[str, dict[str, str]] = {}
        for seed in sorted({seed for each in everyone for seed in each.runs}):
            marks = {_key(each): each.runs[seed][0].marks for each in everyone if seed in each.runs}
            asked[seed] = _asked(marks, f"{name}, seed {seed}")
            with replacing(folder / f"{name}.seed{seed}.parquet") as partial:
                _table(marks, asked[seed]).to_parquet(partial, index=False)
        index.append({"world": name, "benchmarks": [asdict(each) for each in benchmarks.values()], "asked": asked,
                      "contenders": [_described(each) for each in everyone]})  # fmt: skip
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


def _asked(marks: Mapping[str, Mapping[str, Marks]], where: str) -> dict[str, str]:
    """Benchmark -> digest of its questions and labels."""
    asked: dict[str, str] = {}
    for title, by_benchmark in marks.items():
        for benchmark, each in by_benchmark.items():
            if asked.setdefault(benchmark, each.asked) != each.asked:
                raise StoreError(
                    f"{where}: {title} was asked other questions on {benchmark} than the others: keep sweeps with "
                    "other limits or splits in an archive of their own"
                )
    return asked


def _table(marks: Mapping[str, Mapping[str, Marks]], asked: Mapping[str, str]) -> pd.DataFrame:
    """A line for each question, a column for everyone: right, wrong, or not asked."""
    blocks = []
    for benchmark in asked:
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
            "trials": [None if math.isnan(each) else each for each in run.trials],
            **run.made_by,
        }
        for seed, (run, *_) in contender.runs.items()
    }
    return {"key": _key(contender), "method": contender.method, "title": contender.title, "tuned": contender.tuned,
            "reads": contender.reads, "record": asdict(contender.record), "runs": runs}  # fmt: skip


def _part(world: Mapping[str, Any], folder: Path) -> Part:
    name, asked = world["world"], world["asked"]
    tables = {seed: pd.read_parquet(folder / f"{name}.seed{seed}.parquet") for seed in asked}
    contenders = []
    for each in world["contenders"]:
        runs = {seed: (_run(facts, tables[seed], each["key"], asked[seed]),) for seed, facts in each["runs"].items()}
        record = MethodRecord(**{**each["record"], "kind": MethodKind(each["record"]["kind"])})
        ours = is_ours(each["method"], each["title"])
        contenders.append(Contender(each["method"], record, each["title"], each["tuned"], runs, each["reads"], ours))
    benchmarks = tuple(
        EvaluatedBenchmark(**{**each, "departures": tuple(each["departures"])}) for each in world["benchmarks"]
    )
    return Part(name, benchmarks, tuple(contenders))


def _run(facts: Mapping[str, Any], table: pd.DataFrame, key: str, asked: Mapping[str, str]) -> FinishedRun:
    answered = table.loc[table[key].notna(), [*KEYS, key]]
    marks = {
        benchmark: Marks(lines["question"].to_numpy(np.uint64), lines[key].to_numpy(bool), asked[benchmark])
        for benchmark, lines in answered.groupby("benchmark", sort=False)
    }
    made_by = {name: value for name, value in facts.items() if name not in ("seconds", "trials")}
    return FinishedRun(marks, facts["seconds"], tuple(math.nan if t is None else t for t in facts["trials"]), made_by)
