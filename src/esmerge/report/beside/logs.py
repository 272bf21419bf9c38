"""Answers in per-sample logs of lm-evaluation-harness and of Inspect, one JSON object per line.

Such logs say whether an answer was right, not in our labels what it was, so that a right answer is stored as its
target and a wrong one as an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from esmerge.core.errors import InputError
from esmerge.core.text_files import read_text
from esmerge.report.beside.types import AnsweredSet, Answers, Key

SAMPLES = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.:-]+")  # how lm-evaluation-harness names its files
ONE_FILE = "samples"  # the task of a single file, whatever the file is called
HARNESS_METRICS = ("acc", "exact_match", "em", "correct", "acc_norm")  # shares of right answers, the usual one first
INSPECT_GRADES = {"C": 1.0, "I": 0.0, "N": 0.0}
Record = Mapping[str, object]


def read_log_answers(path: Path) -> Answers:
    """One ``.jsonl`` file, or every one in a folder, as the answers of one method.

    Raises:
        InputError: no line, a line that is neither program's, or an answer that is neither right nor wrong.
    """
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    rows: dict[Key, list[dict[str, str]]] = {}
    for file in files:
        match = SAMPLES.fullmatch(file.stem)
        task = match["task"] if match else file.stem if path.is_dir() else ONE_FILE
        for key, row in _rows(file, task):
            rows.setdefault(key, []).append(row)
    if not rows:
        raise InputError(f"{path} holds no samples: expected a sweep folder, a .jsonl file, or a folder of such files")
    sets = {key: AnsweredSet(pd.DataFrame(answers)) for key, answers in rows.items()}
    return Answers(path.stem if path.is_file() else path.resolve().name, {"all samples": sets})


def _rows(file: Path, task: str) -> Iterator[tuple[Key, dict[str, str]]]:
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: no JSON ({error}): expected one object per line") from error
        if not isinstance(record, dict):
            raise InputError(f"{where}: {type(record).__name__}, expected a JSON object")
        if "doc_id" in record:
            yield _harness_row(record, task, where)
        elif isinstance(record.get("scores"), dict) and "id" in record:
            yield from _inspect_rows(record, task, where)
        else:
            raise InputError(
                f"{where}: keys {', '.join(sorted(record))}: expected a sample of lm-evaluation-harness (doc_id, "
                "target, acc …) or of Inspect (id, target, scores)"
            )


def _harness_row(record: Record, task: str, where: str) -> tuple[Key, dict[str, str]]:
    metric = next((name for name in HARNESS_METRICS if name in record), None)
    if metric is None:
        raise InputError(f"{where}: none of the metrics {', '.join(HARNESS_METRICS)}: the log must say what is right")
    answers_filter = str(record.get("filter", "none"))
    benchmark = task if answers_filter == "none" else f"{task} [{answers_filter}]"
    question = ":".join(str(record[name]) for name in ("doc_id", "doc_hash") if name in record)
    return ("", benchmark), _row(question, record.get("target"), record[metric], f"{where}: {metric}")


def _inspect_rows(record: Record, task: str, where: str) -> Iterator[tuple[Key, dict[str, str]]]:
    scores = record["scores"]
    assert isinstance(scores, dict)
    for scorer, score in scores.items():
        value = score.get("value") if isinstance(score, dict) else score
        grade = INSPECT_GRADES.get(value, value) if isinstance(value, str) else value
        benchmark = task if len(scores) == 1 else f"{task} [{scorer}]"
        row = _row(str(record["id"]), record.get("target"), grade, f"{where}: score {scorer}")
        yield (str(record.get("epoch", "")), benchmark), row


def _row(question: str, target: object, value: object, where: str) -> dict[str, str]:
    label = target if isinstance(target, str) else json.dumps(target, sort_keys=True)
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise InputError(f"{where} is {value!r}: expected 1 or 0, right or wrong; partial credit cannot be compared")
    return {"id": question, "label": label, "prediction": label if value else "" if label else "wrong"}
