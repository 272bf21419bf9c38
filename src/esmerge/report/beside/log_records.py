"""Single samples of other programs' logs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esmerge.core.errors import InputError

HARNESS_METRICS = ("acc", "exact_match", "em", "correct", "acc_norm")  # shares of right answers, the usual one first
INSPECT_GRADES = {"C": 1.0, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
Record = Mapping[str, object]


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        epoch: of several passes over the same questions; empty where the log has none.
        benchmark: the task, with the filter of its answers if it has one.
        scorer: of Inspect, whose tasks may have several; empty in other logs.
        question: the same in two logs where the question is the same.
        has_text: whether ``question`` tells questions apart by what was asked; else it is a mere number.
        label: the target.
        metric: that says so.
    """

    epoch: str
    benchmark: str
    scorer: str
    question: str
    has_text: bool
    label: str
    is_right: bool
    metric: str

    def row(self) -> dict[str, str]:
        """``id, label, prediction``."""
        wrong = "" if self.label else "wrong"
        return {"id": self.question, "label": self.label, "prediction": self.label if self.is_right else wrong}


def harness_sample(record: Record, task: str, where: str) -> Sample:
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
    text = _document(record)
    return Sample(
        epoch="",
        benchmark=task if answers_filter == "none" else f"{task} [{answers_filter}]",
        scorer="",
        question=_question(record["doc_id"], text),
        has_text=bool(text),
        label=_label(record),
        is_right=_is_right(record[metric], f"{where}: {metric}"),
        metric=metric,
    )


def is_inspect_sample(record: Record) -> bool:
    """Whether a record has what Inspect writes of every sample; one that ended in an error has no scores."""
    return "id" in record and (isinstance(record.get("scores"), dict) or ("epoch" in record and "input" in record))


def inspect_samples(record: Record, task: str, where: str) -> Iterator[Sample | None]:
    """A sample of Inspect, once for each of its scorers; None if it was not scored.

    Raises:
        InputError: a score that is neither right nor wrong.
    """
    scores = record.get("scores")
    if not isinstance(scores, dict) or not scores:
        yield None
        return
    text = _conversation(record)
    for scorer, score in scores.items():
        value = score.get("value") if isinstance(score, dict) else score
        grade = INSPECT_GRADES.get(value, value) if isinstance(value, str) else value
        if grade is None or (isinstance(grade, float) and math.isnan(grade)):  # how a scorer says that it has no score
            yield None
            continue
        yield Sample(
            epoch=str(record.get("epoch", "")),
            benchmark=task,
            scorer=str(scorer),
            question=_question(record["id"], text),
            has_text=bool(text),
            label=_label(record),
            is_right=_is_right(grade, f"{where}: score {scorer}"),
            metric=str(scorer),
        )


def _document(record: Record) -> str:
    """A hash of the row that a question was made of, choices included; empty where the log does not hold it."""
    if "doc_hash" in record:
        return str(record["doc_hash"])
    return _hash(record["doc"]) if record.get("doc") is not None else ""


def _conversation(record: Record) -> str:
    """A hash of the messages and choices that a model was given; empty where the log does not hold them."""
    question = record.get("input")
    if not isinstance(question, str | list):
        return ""
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else question
    return _hash([[_message(message) for message in messages], record.get("choices") or []])


def _message(message: object) -> object:
    """Role and content of a message; its id is random, and its source and model say nothing of the question."""
    if not isinstance(message, Mapping):
        return message
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [message.get("role"), [_part(part) for part in parts] if isinstance(parts, list) else parts]


def _part(part: object) -> object:
    """A part of a message without its id, and without fields that are empty, which versions of Inspect add."""
    if not isinstance(part, Mapping):
        return part
    return {name: value for name, value in part.items() if name != "id" and value is not None}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _question(number: object, text_hash: str) -> str:
    """The number, which is a mere position where a data set has no ids, and a hash of what was asked."""
    return f"{number}:{text_hash}" if text_hash else str(number)


def _label(record: Record) -> str:
    target = record.get("target")
    return target if isinstance(target, str) else json.dumps(target, sort_keys=True)


def _is_right(value: object, where: str) -> bool:
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise InputError(f"{where} is {value!r}: expected 1 or 0, right or wrong; partial credit cannot be compared")
    return bool(value)
