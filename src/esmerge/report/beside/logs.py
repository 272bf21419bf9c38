"""Answers in per-sample logs of lm-evaluation-harness and of Inspect.

lm-evaluation-harness writes ``<model>/samples_<task>_<time>.jsonl`` (``--log_samples``), Inspect a JSON object for each
log (``--log-format json``), whose samples may also stand alone, one per line. Such logs say whether an answer was
right, not in our labels what it was, so that a right answer is stored as its target and a wrong one as an empty text.
A question is its number and, where the log holds it, a hash of what was asked: equal numbers alone make no pair then.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from esmerge.core.errors import InputError
from esmerge.report.beside.log_files import LogFile, log_files, log_name, read_log
from esmerge.report.beside.log_records import Record, Sample, harness_sample, inspect_samples, is_inspect_sample
from esmerge.report.beside.types import AnsweredSet, Answers, Key

SAMPLES = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.:-]+")  # how lm-evaluation-harness names its files
ONE_FILE = "samples"  # the task of a single file, whatever the file is called
ONE_METHOD = "all samples"
Source = tuple[Path, str]
"""Folder, and model where a log names it."""


@dataclass
class _Answered:
    """One benchmark of one epoch, from one file."""

    file: Path
    metric: str
    rows: dict[str, dict[str, str]] = field(default_factory=dict)  # by question
    has_text: bool = True


@dataclass
class _Log:
    """What the files of one method said so far.

    Attributes:
        answered: by epoch, benchmark and scorer.
        unscored: samples without a score.
    """

    answered: dict[tuple[str, str, str], _Answered] = field(default_factory=dict)
    unscored: int = 0

    def add(self, file: Path, where: str, sample: Sample) -> None:
        task = sample.benchmark
        key = sample.epoch, task, sample.scorer
        answered = self.answered.setdefault(key, _Answered(file, sample.metric))
        if answered.file != file:
            raise InputError(f"{answered.file} and {file} both hold samples of {task}: expected one file for each")
        if answered.metric != sample.metric:
            raise InputError(
                f"{file}: {task} is right by {answered.metric} in one sample and by {sample.metric} in another"
            )
        if sample.question in answered.rows:
            raise InputError(
                f"{where}: {task} has question {sample.question} a second time: expected each once (in an epoch)"
            )
        answered.rows[sample.question] = sample.row()
        answered.has_text &= sample.has_text

    def sets(self) -> dict[Key, AnsweredSet]:
        """By epoch and benchmark, which is named after its scorer too where a task has several."""
        scorers: dict[str, set[str]] = {}
        for _, benchmark, scorer in self.answered:
            scorers.setdefault(benchmark, set()).add(scorer)
        return {
            (epoch, benchmark if len(scorers[benchmark]) == 1 else f"{benchmark} [{scorer}]"): AnsweredSet(
                pd.DataFrame(list(answered.rows.values())), metric=answered.metric, has_text=answered.has_text
            )
            for (epoch, benchmark, scorer), answered in self.answered.items()
        }


def read_log_answers(path: Path) -> Answers:
    """One log file, or every one in a folder; folders of several models, and models in a folder, are several methods.

    Raises:
        InputError: no sample, a record that is neither program's, an answer that is neither right nor wrong, a
            question that returns, or two files of one task.
    """
    logs: dict[Source, _Log] = {}
    notes: list[str] = []
    for file in log_files(path) if path.is_dir() else [path]:
        log_file, name = read_log(file), log_name(file)
        match = SAMPLES.fullmatch(name)
        task = match["task"] if match else name if path.is_dir() else ONE_FILE
        log = logs.setdefault((file.parent, log_file.model), _Log())
        count = _read(file, log_file, log_file.task or task, log)
        if log_file.is_log and not count:
            notes.append(f"{file.name} holds no samples.")
        if not log_file.is_complete:
            notes.append(f"{file.name} says that its evaluation did not end well: samples may be missing.")
    names = _names(path, [source for source, log in logs.items() if log.answered or log.unscored])
    notes += [
        f"{logs[source].unscored} samples ({name}) have no score and are left out."
        for source, name in names.items()
        if logs[source].unscored
    ]
    methods = {name: logs[source].sets() for source, name in names.items() if logs[source].answered}
    if not methods:
        detail = f": {' '.join(notes)}" if notes else ""
        raise InputError(
            f"{path} holds no samples: expected a sweep folder, a .jsonl file, or a folder of such files{detail}"
        )
    return Answers(log_name(path) if path.is_file() else path.resolve().name, methods, notes=tuple(notes))


def _names(path: Path, sources: Sequence[Source]) -> dict[Source, str]:
    """What each method is called: its folder, with the model where a folder holds several; one method has no name."""
    if len(sources) == 1:
        return {sources[0]: ONE_METHOD}
    models = Counter(folder for folder, _ in sources)
    names = {}
    for folder, model in sources:
        parts = [*folder.relative_to(path).parts, *([model] if models[folder] > 1 and model else [])]
        names[folder, model] = "/".join(parts) or "."
    return names


def _read(file: Path, log_file: LogFile, task: str, log: _Log) -> int:
    """Add a file's samples to a log; how many records the file has."""
    count = 0
    for where, record in log_file.records:
        count += 1
        for sample in _samples(record, task, where):
            if sample is None:
                log.unscored += 1
            else:
                log.add(file, where, sample)
    return count


def _samples(record: Record, task: str, where: str) -> Iterator[Sample | None]:
    if "doc_id" in record:
        yield harness_sample(record, task, where)
    elif is_inspect_sample(record):
        yield from inspect_samples(record, task, where)
    else:
        raise InputError(
            f"{where}: keys {', '.join(sorted(record))}: expected a sample of lm-evaluation-harness (doc_id, target, "
            "acc …) or of Inspect (id, target, scores)"
        )
