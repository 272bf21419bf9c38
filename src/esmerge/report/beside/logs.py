"""Answers in per-sample logs of lm-evaluation-harness and of Inspect.

lm-evaluation-harness writes ``<model>/samples_<task>_<time>.jsonl`` (``--log_samples``), Inspect a JSON object for each
log (``--log-format json``), whose samples may also stand alone, one per line. Such logs say whether an answer was
right, not in our labels what it was, so that a right answer is stored as its target and a wrong one as an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from esmerge.core.errors import InputError
from esmerge.report.beside.log_files import FORMS, records
from esmerge.report.beside.log_records import Record, Sample, harness_sample, inspect_samples, is_inspect_sample
from esmerge.report.beside.types import AnsweredSet, Answers, Key

SAMPLES = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.:-]+")  # how lm-evaluation-harness names its files
ONE_FILE = "samples"  # the task of a single file, whatever the file is called
ONE_METHOD = "all samples"
Rows = dict[Key, list[dict[str, str]]]


@dataclass
class _Log:
    """What the files of one method said so far."""

    rows: Rows = field(default_factory=dict)
    origins: dict[Key, Path] = field(default_factory=dict)
    metrics: dict[Key, str] = field(default_factory=dict)
    unscored: int = 0

    def add(self, file: Path, task: str, key: Key, sample: Sample) -> None:
        origin = self.origins.setdefault(key, file)
        if origin != file:
            raise InputError(f"{origin} and {file} both hold samples of {task}: expected one file for each")
        if (metric := self.metrics.setdefault(key, sample.metric)) != sample.metric:
            raise InputError(f"{file}: {task} is right by {metric} in one sample and by {sample.metric} in another")
        self.rows.setdefault(key, []).append(sample.row())


def read_log_answers(path: Path) -> Answers:
    """One log file, or every one in a folder; folders of several models are several methods.

    Raises:
        InputError: no sample, a record that is neither program's, an answer that is neither right nor wrong, or two
            files of one task.
    """
    files = sorted(file for form in FORMS for file in path.rglob(f"*{form}")) if path.is_dir() else [path]
    logs: dict[Path, _Log] = {}
    for file in files:
        match = SAMPLES.fullmatch(file.stem)
        task = match["task"] if match else file.stem if path.is_dir() else ONE_FILE
        _read(file, task, logs.setdefault(file.parent, _Log()))
    logs = {folder: log for folder, log in logs.items() if log.rows}
    if not logs:
        raise InputError(f"{path} holds no samples: expected a sweep folder, a .jsonl file, or a folder of such files")
    names = {folder: str(folder.relative_to(path)) if len(logs) > 1 else ONE_METHOD for folder in logs}
    methods = {name: _sets(logs[folder]) for folder, name in names.items()}
    counts = {names[folder]: log.unscored for folder, log in logs.items() if log.unscored}
    notes = [f"{count} samples ({name}) have no score and are left out." for name, count in counts.items()]
    name = path.stem if path.is_file() else path.resolve().name
    return Answers(name, methods, notes=tuple(notes))


def _sets(log: _Log) -> Mapping[Key, AnsweredSet]:
    return {key: AnsweredSet(pd.DataFrame(answers), metric=log.metrics[key]) for key, answers in log.rows.items()}


def _read(file: Path, task: str, log: _Log) -> None:
    for where, record, named in records(file):
        title = named or task
        for key, sample in _samples(record, title, where):
            if sample is None:
                log.unscored += 1
            else:
                log.add(file, title, key, sample)


def _samples(record: Record, task: str, where: str) -> Iterator[tuple[Key, Sample | None]]:
    if "doc_id" in record:
        yield harness_sample(record, task, where)
    elif is_inspect_sample(record):
        yield from inspect_samples(record, task, where)
    else:
        raise InputError(
            f"{where}: keys {', '.join(sorted(record))}: expected a sample of lm-evaluation-harness (doc_id, target, "
            "acc …) or of Inspect (id, target, scores)"
        )
