"""Predictions of a sweep, each file read once and kept small: tables, tests, figures and the page all need them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esmerge.core.errors import StoreError
from esmerge.core.text_files import decode_file
from esmerge.tracking.store import RunFolder

LOGLIK = "score:"  # begins the columns of a label's log-likelihood
Texts = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class AskedQuestions:
    """Ids and right answers of one file; runs that were asked the same hold the same object.

    Attributes:
        ids, labels: (n,), in the file's order.
        checksum: of the tables that the questions were made of, as the run stored it; empty where it did not.
        is_unique: whether no id is there twice.
    """

    ids: Texts
    labels: Texts
    checksum: str
    is_unique: bool


@dataclass(frozen=True, eq=False)
class RunAnswers:
    """One run's answers to one benchmark.

    Attributes:
        predictions: (n,) numbers of texts, the same for the same text in the whole sweep; 0 is the empty text.
        right: (n,) whether the prediction is the label.
        confidence: (n,) probability of the label that was answered, of the likeliest where none could be parsed; NaN
            where log-likelihoods are missing.
        unknown: place of a prediction that is nobody's label -> the raw answer.
    """

    questions: AskedQuestions
    predictions: NDArray[np.int32]
    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    unknown: Mapping[int, str]


class StoredAnswers:
    """The answers in a sweep folder; what several tables of one sweep share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: dict[tuple[str, str], RunAnswers | None] = {}
        self._questions: dict[str, AskedQuestions] = {}
        self._numbers, self._texts = {"": 0}, [""]
        self._checksums: dict[str, dict[str, str]] = {}

    def answers(self, run: str, benchmark: str) -> RunAnswers | None:
        """What a run answered; None where nothing is stored.

        Raises:
            StoreError: the file is damaged.
        """
        key = run, benchmark
        if key not in self._answers:
            path = RunFolder(self._folder / run).path / "predictions" / f"{benchmark}.csv"
            self._answers[key] = self._read(path, run, benchmark) if path.exists() else None
        return self._answers[key]

    def text(self, number: int) -> str:
        """The prediction of a number."""
        return self._texts[number]

    def _read(self, path: Path, run: str, benchmark: str) -> RunAnswers:
        table = _columns(path)
        questions = self._asked(table["id"], table["label"], self._checksum(run, benchmark))
        predicted, labels, raw = table["prediction"], set(questions.labels), table["raw_answer"]
        numbers = {text: self._number(text) for text in {*predicted, *labels}}
        predictions = np.array([numbers[text] for text in predicted], np.int32)
        truth = np.array([numbers[text] for text in questions.labels], np.int32)
        unknown = {index: raw[index] for index, text in enumerate(predicted) if text not in labels}
        return RunAnswers(questions, predictions, predictions == truth, confidences(table), unknown)

    def _asked(self, ids: Texts, labels: Texts, checksum: str) -> AskedQuestions:
        text = "\0".join([checksum, *ids, *labels])
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self._questions:
            self._questions[key] = AskedQuestions(ids, labels, checksum, len(set(ids)) == len(ids))
        return self._questions[key]

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return self._numbers[text]

    def _checksum(self, run: str, benchmark: str) -> str:
        if run not in self._checksums:
            described = RunFolder(self._folder / run).read_benchmarks()
            self._checksums[run] = {name: str(facts.get("checksum", "")) for name, facts in described.items()}
        return self._checksums[run].get(benchmark, "")


def confidences(table: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """``RunAnswers.confidence``, (n,), from the columns ``prediction`` and ``score:<label>``."""
    names = [name for name in table if name.startswith(LOGLIK)]
    predicted = table["prediction"]
    sure = np.full(len(predicted), np.nan)
    if not names or not len(predicted):
        return sure
    loglik = np.array([[float(cell or "nan") for cell in table[name]] for name in names]).T
    scored = np.flatnonzero(~np.isnan(loglik).any(axis=1))
    indices = {name.removeprefix(LOGLIK): index for index, name in enumerate(names)}
    at = np.array([indices.get(predicted[row], -1) for row in scored.tolist()], np.int64)
    of_scored = loglik[scored]
    shares = np.exp(of_scored - np.logaddexp.reduce(of_scored, axis=1, keepdims=True))
    if len(scored):
        at = np.where(at < 0, shares.argmax(axis=1), at)
    sure[scored] = shares[np.arange(len(scored)), at]
    return sure


def _columns(path: Path) -> dict[str, Texts]:
    """A file of predictions as columns of text, in a fifth of the time that a data frame takes.

    Raises:
        StoreError: no CSV, rows of unequal length, or a column is missing.
    """
    again = "delete the run's folder and run the sweep again"
    text = decode_file(path)
    try:
        if '"' in text or "\r" in text:
            head, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
        else:  # nothing is quoted: a third of the time
            head, *rows = [line.split(",") for line in text.split("\n") if line] or [[]]
    except csv.Error as error:
        raise StoreError(f"{path} is no CSV file ({error}): {again}") from error
    if any(len(row) != len(head) for row in rows):
        raise StoreError(f"{path} has rows of other lengths than its head, {len(head)} columns: {again}")
    cells: list[Texts] = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    columns = dict(zip(head, cells, strict=True))
    if missing := {"id", "label", "prediction", "raw_answer"} - columns.keys():
        raise StoreError(f"{path} lacks the column(s) {', '.join(sorted(missing))}: {again}")
    return columns
