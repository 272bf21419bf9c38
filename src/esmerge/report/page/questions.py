"""Single questions with the answers of every method, for the browser of the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from esmerge.core.methods import MethodKind
from esmerge.core.prompts import Prompt
from esmerge.report.load import Row, SweepResults
from esmerge.report.methods import BLOCKS
from esmerge.report.page.prompts import Pool, PromptPart
from esmerge.report.stored_answers import AskedQuestions, RunAnswers
from esmerge.tracking.questions import read_questions

MOST_METHODS = 60
MOST_QUESTIONS, BYTES = 120, 2_700_000  # per benchmark, halved until all of them fit in so many bytes
MOST_ENTITIES = 2_000  # on the page, halved as well: drawing takes a millisecond or two each
DIFFERING = 0.75  # of the questions shown: such that methods answer differently, if there are enough
LONGEST_ANSWER = 200  # letters of a raw answer that could not be parsed


@dataclass(frozen=True)
class BenchmarkAnswers:
    """The answers of one seed's runs to one benchmark.

    Attributes:
        prompts: id -> prompt; empty where none were stored.
        answers: index of a method -> its answers.
        compared: methods whose answers are looked at for differences: all but the floors.
        labels: what can be answered.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    prompts: Mapping[str, Prompt]
    answers: Mapping[int, RunAnswers]
    compared: frozenset[int]

    @cached_property
    def ids(self) -> list[str]:
        """In the order of the split; those with a stored prompt, if any have one."""
        distinct = dict.fromkeys(answers.questions for answers in self.answers.values())
        all_ids = list(dict.fromkeys(i for questions in distinct for i in questions.ids))
        return [i for i in all_ids if i in self.prompts] if self.prompts else all_ids

    @cached_property
    def positions(self) -> Mapping[AskedQuestions, Mapping[str, int]]:
        """Where in a run's answers each question is."""
        distinct = dict.fromkeys(answers.questions for answers in self.answers.values())
        return {questions: {i: index for index, i in enumerate(questions.ids)} for questions in distinct}

    @cached_property
    def differing(self) -> set[str]:
        """Questions that methods answer differently."""
        first: dict[str, int] = {}
        differing = set()
        for index in self.compared & self.answers.keys():
            answers = self.answers[index]
            for i, predicted in zip(answers.questions.ids, answers.predictions.tolist(), strict=True):
                if first.setdefault(i, predicted) != predicted:
                    differing.add(i)
        return differing


@dataclass(frozen=True)
class Browser:
    """What the page's script shows, as plain data for JSON.

    Attributes:
        data: see ``data/report.js``, which reads it.
        notes: what is shown and what is not.
    """

    data: Mapping[str, object]
    notes: tuple[str, ...]


def question_browser(sweep: SweepResults, letters: int = BYTES) -> Browser | None:
    """The questions of one seed, as many as fit into so many letters of the page; None if no run has predictions."""
    seed = next((seed for row in sweep.rows for seed in row.runs), "")
    with_seed = [row for row in sweep.rows if seed in row.runs]
    rows = with_seed[:MOST_METHODS]
    benchmarks = [answers for answers in _answers(sweep, rows, seed) if answers.ids]
    if not benchmarks:
        return None
    limit, text = MOST_QUESTIONS, sweep.answers.text
    pool, selection = _collect(benchmarks, limit, text)
    while limit > 1 and _is_too_much(pool, selection, letters):
        limit //= 2
        pool, selection = _collect(benchmarks, limit, text)
    compared = _compared(rows)
    methods = [
        {"title": row.title, "block": BLOCKS[row.kind], "compared": index in compared} for index, row in enumerate(rows)
    ]
    data = {"methods": methods, "benchmarks": selection, **pool.data()}
    is_whole = sum(map(len, (answers.ids for answers in benchmarks))) == _count(selection)
    return Browser(data, tuple(_notes(sweep, len(rows), len(with_seed), seed, None if is_whole else limit)))


def _is_too_much(pool: Pool, selection: Sequence[Mapping[str, object]], letters: int) -> bool:
    """Judged from a few drawings first: a sweep of many benchmarks would draw thousands only to leave them out."""
    length = _length(json.dumps(selection)) + pool.length_of_texts()
    if len(pool) > MOST_ENTITIES or length + 0.8 * pool.likely_length_of_drawings() > letters:
        return True
    return _length(json.dumps([selection, pool.data()])) > letters


def _length(text: str) -> int:
    """Letters on the page, where some are written as six."""
    return len(text) + 5 * sum(map(text.count, "<>&'"))


def _count(selection: Sequence[Mapping[str, object]]) -> int:
    """Questions of all benchmarks."""
    return sum(len(questions) for benchmark in selection if isinstance(questions := benchmark["questions"], list))


def _notes(sweep: SweepResults, methods: int, with_seed: int, seed: str, limit: int | None) -> list[str]:
    """What is shown; ``limit`` is None where it is all that was asked."""
    part = (
        f"All questions of seed {seed} that were asked."
        if limit is None
        else f"At most {limit} questions per benchmark of seed {seed}; up to three quarters of them are such that "
        "methods, floors aside, answer differently, so that nothing can be counted here."
    )
    notes = [f"{part} All answers are in predictions/ of each run's folder."]
    if methods < with_seed:
        notes.append(f"The first {methods} of {with_seed} methods.")
    if with_seed < len(sweep.rows):
        notes.append(f"{len(sweep.rows) - with_seed} methods have no run of seed {seed} and are left out.")
    return notes


def _answers(sweep: SweepResults, rows: Sequence[Row], seed: str) -> list[BenchmarkAnswers]:
    """World by world: the same id is another question in another world."""
    several = []
    for world, part in sweep.worlds().items():
        members = {index: row for index, row in enumerate(rows) if row in part.rows}
        described = [sweep.run(row.runs[seed]).read_benchmarks() for row in members.values()]
        for benchmark in part.benchmarks:
            stored = {index: sweep.answers.answers(row.runs[seed], benchmark.name) for index, row in members.items()}
            answers = {index: of_run for index, of_run in stored.items() if of_run is not None}
            facts = [of_run[benchmark.name] for of_run in described if benchmark.name in of_run]
            files = [str(fact["questions"]) for fact in facts if fact.get("questions")]
            prompts = read_questions(sweep.folder, files[0]) if files else {}
            distinct = {of_run.questions for of_run in answers.values()}
            labels = {label for questions in distinct for label in questions.labels}
            title = f"{benchmark.title} ({world})" if world else benchmark.title
            name = (benchmark.name, title, tuple(sorted(labels)))
            several.append(BenchmarkAnswers(*name, prompts, answers, _compared(rows)))
    return several


def _compared(rows: Sequence[Row]) -> frozenset[int]:
    return frozenset(index for index, row in enumerate(rows) if row.kind is not MethodKind.FLOOR)


def _collect(
    benchmarks: Sequence[BenchmarkAnswers], limit: int, text: Callable[[int], str]
) -> tuple[Pool, list[dict[str, object]]]:
    """At most ``limit`` questions of each benchmark, and what their prompts are made of."""
    pool = Pool()
    return pool, [_benchmark(answers, limit, pool, text) for answers in benchmarks]


def _benchmark(answers: BenchmarkAnswers, limit: int, pool: Pool, text: Callable[[int], str]) -> dict[str, object]:
    ids = selected(answers.ids, answers.differing, limit)
    questions = [_question(i, answers, pool.parts(answers.prompts.get(i, ())), text) for i in ids]
    head = {"name": answers.name, "title": answers.title, "labels": answers.labels, "total": len(answers.ids)}
    return {**head, "questions": questions}


def selected(ids: Sequence[str], differing: set[str], limit: int) -> list[str]:
    """At most ``limit`` ids in their order, three quarters of them differing ones if there are so many; even."""
    apart = [i for i in ids if i in differing]
    alike = [i for i in ids if i not in differing]
    count = min(len(apart), max(round(DIFFERING * limit), limit - len(alike)))
    picked = {*_spread(apart, count), *_spread(alike, limit - count)}
    return [i for i in ids if i in picked]


def _spread(ids: Sequence[str], count: int) -> list[str]:
    count = min(len(ids), count)
    return [ids[place * len(ids) // count] for place in range(count)]


def _question(
    name: str, benchmark: BenchmarkAnswers, prompt: Sequence[PromptPart], text: Callable[[int], str]
) -> dict[str, object]:
    """Short keys: they are repeated for every question. ``a``: index of a label, -1 if not parsed, null if not asked;
    ``c``: percent; ``r``: raw answers that could not be parsed."""
    labels = {label: index for index, label in enumerate(benchmark.labels)}
    indices, sure = list[int | None](), list[int | None]()
    raw, truth = dict[int, str](), ""
    for method, answers in benchmark.answers.items():
        row = benchmark.positions[answers.questions].get(name)
        if row is None:
            indices.append(None)
            sure.append(None)
            continue
        truth, confidence = answers.questions.labels[row], float(answers.confidence[row])
        indices.append(labels.get(text(int(answers.predictions[row])), -1))
        sure.append(None if confidence != confidence else round(100 * confidence))
        if indices[-1] == -1:
            raw[method] = answers.unknown[row][:LONGEST_ANSWER]
    methods = list(benchmark.answers)
    return {"id": name, "p": prompt, "l": labels[truth], "m": methods, "a": indices, "c": sure, "r": raw}
