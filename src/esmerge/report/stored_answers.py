"""Predictions of a sweep, each file read once and kept small: tables, tests, figures and the page all need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

from esmerge.core.errors import StoreError
from esmerge.tracking.store import RunFolder

TEXTS = ("id", "label", "prediction", "raw_answer")
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


@dataclass(frozen=True, eq=False)
class _Asked:
    """Questions, and the columns that tell whether another file asks the same; ``truth`` (n,) numbers their labels."""

    questions: AskedQuestions
    ids: pa.ChunkedArray
    labels: pa.ChunkedArray
    truth: NDArray[np.int32]


class StoredAnswers:
    """The answers in a sweep folder; what several tables of one sweep share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: dict[tuple[str, str], RunAnswers | None] = {}
        self._questions: dict[str, list[_Asked]] = {}
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
        table = _table(path)
        checksum = self._checksum(run, benchmark)
        questions, truth = self._asked(benchmark, table["id"], table["label"], checksum)
        predictions = self._numbered(table["prediction"])
        strange = np.flatnonzero(~np.isin(predictions, truth))
        unknown = dict(zip(strange.tolist(), table["raw_answer"].take(strange).to_pylist(), strict=True))
        return RunAnswers(questions, predictions, predictions == truth, self._confidences(table, predictions), unknown)

    def _asked(
        self, benchmark: str, ids: pa.ChunkedArray, labels: pa.ChunkedArray, checksum: str
    ) -> tuple[AskedQuestions, NDArray[np.int32]]:
        """The questions, the same object for the same ones, and the numbers of their labels, (n,)."""
        entries = self._questions.setdefault(benchmark, [])
        for entry in entries:
            if entry.questions.checksum == checksum and entry.ids.equals(ids) and entry.labels.equals(labels):
                return entry.questions, entry.truth
        texts = tuple(ids.to_pylist())
        questions = AskedQuestions(texts, tuple(labels.to_pylist()), checksum, len(set(texts)) == len(texts))
        entries.append(_Asked(questions, ids, labels, self._numbered(labels)))
        return questions, entries[-1].truth

    def _numbered(self, texts: pa.ChunkedArray) -> NDArray[np.int32]:
        """Texts as their numbers, (n,)."""
        encoded = texts.combine_chunks().dictionary_encode()
        numbers = np.array([self._number(text) for text in encoded.dictionary.to_pylist()], np.int32)
        return numbers[encoded.indices.to_numpy()] if len(numbers) else np.zeros(0, np.int32)

    def _confidences(self, table: pa.Table, predictions: NDArray[np.int32]) -> NDArray[np.float64]:
        """``RunAnswers.confidence``, (n,), from the log-likelihoods in the columns ``score:<label>``."""
        names = [name for name in table.column_names if name.startswith(LOGLIK)]
        sure = np.full(len(predictions), np.nan)
        if not names or not len(predictions):
            return sure
        loglik = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)  # (n, labels)
        scored = np.flatnonzero(~np.isnan(loglik).any(axis=1))
        columns = np.full(len(self._texts), -1)
        for column, name in enumerate(names):
            if (number := self._numbers.get(name.removeprefix(LOGLIK))) is not None:
                columns[number] = column
        answered, of_scored = columns[predictions[scored]], loglik[scored]
        shares = np.exp(of_scored - np.logaddexp.reduce(of_scored, axis=1, keepdims=True))
        if len(scored):
            answered = np.where(answered < 0, shares.argmax(axis=1), answered)
        sure[scored] = shares[np.arange(len(scored)), answered]
        return sure

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


def _table(path: Path) -> pa.Table:
    """A file of predictions: texts as they stand, log-likelihoods as numbers.

    Raises:
        StoreError: no CSV, rows of unequal length, or a column is missing.
    """
    remedy = "delete the run's folder and run the sweep again"
    try:
        table = read_csv(
            path,
            read_options=ReadOptions(use_threads=False),
            parse_options=ParseOptions(newlines_in_values=True),
            convert_options=ConvertOptions(column_types=dict.fromkeys(TEXTS, pa.string())),
        )
    except pa.ArrowInvalid as error:
        raise StoreError(f"{path} is no table of predictions ({error}): {remedy}") from error
    if missing := set(TEXTS) - set(table.column_names):
        raise StoreError(f"{path} lacks the column(s) {', '.join(sorted(missing))}: {remedy}")
    numeric = (pa.types.is_floating, pa.types.is_integer, pa.types.is_null)
    for name in table.column_names:
        if name.startswith(LOGLIK) and not any(check(table[name].type) for check in numeric):
            raise StoreError(f"{path} has texts in column {name!r}, expected log-likelihoods: {remedy}")
    return table
