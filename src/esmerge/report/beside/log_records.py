"""Single samples of other programs' logs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esmerge.core.errors import InputError
from esmerge.report.beside.types import Key

HARNESS_METRICS = ("acc", "exact_match", "em", "correct", "acc_norm")  # shares of right answers, the usual one first
INSPECT_GRADES = {"C": 1.0, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
Record = Mapping[str, object]


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        question: the same in two logs where the question is the same.
        label: the target.
        metric: that says so.
    """

    question: str
    label: str
    is_right: bool
    metric: str

    def row(self) -> dict[str, str]:
        """``id, label, prediction``."""
        wrong = "" if self.label else "wrong"
        return {"id": self.question, "label": self.label, "prediction": self.label if self.is_right else wrong}


def harness_sample(record: Record, task: str, where: str) -> tuple[Key, Sample]:
    """A line of ``samples_<task>_<time>.jsonl``: the usual share of right answers, else the first metric it names.

    Raises:
        InputError: no such metric, or one that is neither 1 nor 0.
    """
    named = record.get("metrics")
    metrics = [str(name) for name in named] if isinstance(named, list) else []
    metric = next((name for name in (*HARNESS_METRICS, *metrics) if name in record), None)
    if metric is None:
        raise InputError(f"{where}: none of the metrics {', '.join(HARNESS_METRICS)}: the log must say what is right")
    answers_filter = str(record.get("filter", "none"))
    benchmark = task if answers_filter == "none" else f"{task} [{answers_filter}]"
    question = ":".join(str(record[name]) for name in ("doc_id", "doc_hash") if name in record)
    return ("", benchmark), _sample(question, record, record[metric], metric, f"{where}: {metric}")


def is_inspect_sample(record: Record) -> bool:
    """Whether a record has what Inspect writes of every sample; one that ended in an error has no scores."""
    return "id" in record and (isinstance(record.get("scores"), dict) or ("epoch" in record and "input" in record))


def inspect_samples(record: Record, task: str, where: str) -> Iterator[tuple[Key, Sample | None]]:
    """A sample of Inspect, once for each of its scorers; None if it was not scored.

    Raises:
        InputError: a score that is neither right nor wrong.
    """
    scores = record.get("scores")
    epoch = str(record.get("epoch", ""))
    if not isinstance(scores, dict) or not scores:
        yield (epoch, task), None
        return
    for scorer, score in scores.items():
        value = score.get("value") if isinstance(score, dict) else score
        grade = INSPECT_GRADES.get(value, value) if isinstance(value, str) else value
        benchmark = task if len(scores) == 1 else f"{task} [{scorer}]"
        yield (epoch, benchmark), _sample(_question(record), record, grade, str(scorer), f"{where}: score {scorer}")


def _question(record: Record) -> str:
    """The id, which is a mere place where a data set has none, and a hash of what was asked if that is a text."""
    question = record.get("input")
    if not isinstance(question, str):
        return str(record["id"])
    return f"{record['id']}:{hashlib.sha256(question.encode()).hexdigest()[:12]}"


def _sample(question: str, record: Record, value: object, metric: str, where: str) -> Sample:
    target = record.get("target")
    label = target if isinstance(target, str) else json.dumps(target, sort_keys=True)
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise InputError(f"{where} is {value!r}: expected 1 or 0, right or wrong; partial credit cannot be compared")
    return Sample(question, label, bool(value), metric)
