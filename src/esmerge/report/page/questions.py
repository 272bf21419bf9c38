"""Single questions with the answers of every method, for the browser of the page."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from esmerge.core.methods import MethodKind
from esmerge.core.prompts import Prompt
from esmerge.report.load import Row, SweepResults
from esmerge.report.methods import BLOCKS
from esmerge.report.page.prompts import Pool, PromptPart
from esmerge.report.tidy.answers import confidences
from esmerge.tracking.questions import read_questions

MOST_METHODS = 60
MOST_QUESTIONS, BYTES = 120, 2_500_000  # per benchmark, halved until all of them fit in so many bytes
MOST_ENTITIES = 2_000  # on the page, halved as well: drawing takes a millisecond or two each
DIFFERING = 0.75  # of the questions shown: such that methods answer differently, if there are enough
LONGEST_ANSWER = 200  # letters of a raw answer that could not be parsed


@dataclass(frozen=True)
class BenchmarkAnswers:
    """The answers of one seed's runs to one benchmark.

    Attributes:
        prompts: id -> prompt; empty where none were stored.
        frames: index of a method -> predictions by id, with the confidence in each.
        compared: methods whose answers are looked at for differences: all but the floors.
        labels: what can be answered.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    prompts: Mapping[str, Prompt]
    frames: Mapping[int, pd.DataFrame]
    compared: frozenset[int]

    @cached_property
    def ids(self) -> list[str]:
        """In the order of the split; those with a stored prompt, if any have one."""
        every = list(dict.fromkeys(str(i) for frame in self.frames.values() for i in frame.index))
        return [i for i in every if i in self.prompts] if self.prompts else every

    @cached_property
    def differing(self) -> set[str]:
        """Questions that methods answer differently."""
        compared = {index: frame["prediction"] for index, frame in self.frames.items() if index in self.compared}
        answers = pd.DataFrame(compared)
        differs = answers.nunique(axis=1) > 1
        return set(differs.index[differs])


@dataclass(frozen=True)
class Browser:
    """What the page's script shows, as plain data for JSON.

    Attributes:
        data: see ``data/report.js``, which reads it.
        notes: what is shown and what is not.
    """

    data: Mapping[str, object]
    notes: tuple[str, ...]


def question_browser(sweep: SweepResults) -> Browser | None:
    """The questions of one seed, as many as fit; None if no run has predictions."""
    seed = next((seed for row in sweep.rows for seed in row.runs), "")
    with_seed = [row for row in sweep.rows if seed in row.runs]
    rows = with_seed[:MOST_METHODS]
    benchmarks = [answers for answers in _answers(sweep, rows, seed) if answers.ids]
    if not benchmarks:
        return None
    limit, pool, shown = MOST_QUESTIONS, *_collect(benchmarks, MOST_QUESTIONS)
    while limit > 1 and (len(pool) > MOST_ENTITIES or len(json.dumps([shown, pool.data()])) > BYTES):
        limit //= 2
        pool, shown = _collect(benchmarks, limit)
    compared = _compared(rows)
    methods = [
        {"title": row.title, "block": BLOCKS[row.kind], "compared": index in compared} for index, row in enumerate(rows)
    ]
    data = {"methods": methods, "benchmarks": shown, **pool.data()}
    return Browser(data, tuple(_notes(sweep, len(rows), len(with_seed), seed, limit)))


def _notes(sweep: SweepResults, methods: int, with_seed: int, seed: str, limit: int) -> list[str]:
    notes = [
        f"At most {limit} questions per benchmark of seed {seed}; up to three quarters of them are such that methods, "
        "floors aside, answer differently, so that nothing can be counted here. All answers are in predictions/ of "
        "each run's folder."
    ]
    if methods < with_seed:
        notes.append(f"The first {methods} of {with_seed} methods.")
    if with_seed < len(sweep.rows):
        notes.append(f"{len(sweep.rows) - with_seed} methods have no run of seed {seed} and are left out.")
    return notes


def _answers(sweep: SweepResults, rows: Sequence[Row], seed: str) -> list[BenchmarkAnswers]:
    described = {row.runs[seed]: sweep.run(row.runs[seed]).read_benchmarks() for row in rows}
    several = []
    for benchmark in sweep.benchmarks:
        frames, facts = {}, [of_run[benchmark.name] for of_run in described.values() if benchmark.name in of_run]
        for index, row in enumerate(rows):
            predictions = sweep.run(row.runs[seed]).read_predictions(benchmark.name)
            if predictions is not None:
                frames[index] = _by_id(predictions)
        stored = [str(fact["questions"]) for fact in facts if fact.get("questions")]
        prompts = read_questions(sweep.folder, stored[0]) if stored else {}
        labels = dict.fromkeys(str(label) for frame in frames.values() for label in frame["label"].unique())
        facts_of_it = (benchmark.name, benchmark.title, tuple(sorted(labels)))
        several.append(BenchmarkAnswers(*facts_of_it, prompts, frames, _compared(rows)))
    return several


def _compared(rows: Sequence[Row]) -> frozenset[int]:
    return frozenset(index for index, row in enumerate(rows) if row.kind is not MethodKind.FLOOR)


def _by_id(predictions: pd.DataFrame) -> pd.DataFrame:
    """Columns ``label, prediction, raw_answer, confidence`` by id; no confidence where a likelihood is missing."""
    scored = confidences(predictions)
    frame = predictions[["id", "label", "prediction", "raw_answer"]].assign(confidence=float("nan"))
    frame.loc[scored.index, "confidence"] = scored["confidence"]
    return frame.drop_duplicates("id").set_index("id")


def _collect(benchmarks: Sequence[BenchmarkAnswers], limit: int) -> tuple[Pool, list[dict[str, object]]]:
    """At most ``limit`` questions of each benchmark, and what their prompts are made of."""
    pool = Pool()
    return pool, [_benchmark(answers, limit, pool) for answers in benchmarks]


def _benchmark(answers: BenchmarkAnswers, limit: int, pool: Pool) -> dict[str, object]:
    ids = selected(answers.ids, answers.differing, limit)
    records = {index: frame.reindex(ids).to_dict("index") for index, frame in answers.frames.items()}
    questions = []
    for i in ids:
        answers_to_it = {index: of_method[i] for index, of_method in records.items()}
        questions.append(_question(i, answers.labels, answers_to_it, pool.parts(answers.prompts.get(i, ()))))
    head = {"name": answers.name, "title": answers.title, "labels": answers.labels, "total": len(answers.ids)}
    return {**head, "questions": questions}


def selected(ids: Sequence[str], differing: set[str], limit: int) -> list[str]:
    """At most ``limit`` ids in their order, three quarters of them differing ones if there are so many; even."""
    apart = [i for i in ids if i in differing]
    alike = [i for i in ids if i not in differing]
    many = min(len(apart), max(round(DIFFERING * limit), limit - len(alike)))
    picked = {*_spread(apart, many), *_spread(alike, limit - many)}
    return [i for i in ids if i in picked]


def _spread(ids: Sequence[str], count: int) -> list[str]:
    count = min(len(ids), count)
    return [ids[place * len(ids) // count] for place in range(count)]


def _question(
    name: str, labels: Sequence[str], by_method: Mapping[int, Mapping[Hashable, object]], prompt: Sequence[PromptPart]
) -> dict[str, object]:
    """Short keys: they are repeated for every question. ``a``: index of a label, -1 if not parsed, null if not asked;
    ``c``: percent; ``r``: raw answers that could not be parsed."""
    places = {label: index for index, label in enumerate(labels)}
    true = next(str(answer["label"]) for answer in by_method.values() if answer["label"] == answer["label"])
    indices, sure, raw = [], [], {}
    for method, answer in by_method.items():
        predicted, confidence = answer["prediction"], float(str(answer["confidence"]))
        is_absent = predicted != predicted
        indices.append(None if is_absent else places.get(str(predicted), -1))
        sure.append(None if confidence != confidence else round(100 * confidence))
        if indices[-1] == -1:
            raw[method] = str(answer["raw_answer"])[:LONGEST_ANSWER]
    return {"id": name, "p": prompt, "l": places[true], "m": list(by_method), "a": indices, "c": sure, "r": raw}
