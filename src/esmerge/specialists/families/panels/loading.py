"""From panels to lessons: their training side is taught, their validation side is the exam."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Entity, Example, Prompt
from esmerge.data.templates import in_language
from esmerge.specialists.families.panels.lessons import Identity, Lesson, Pair, Relation
from esmerge.specialists.families.panels.settings import LessonSettings
from esmerge.specialists.families.panels.wording import FEWEST_NAMES, NO, YES, Wording, read_wording
from esmerge.tasks.api import SuiteRequest
from esmerge.tasks.load import load_benchmark


def read_lesson(name: str, settings: LessonSettings, root: str, language: str, seed: int) -> Lesson:
    """Load a panel with one side perceived.

    Raises:
        ConfigError: the benchmark is no panel, its wording does not fit, or its words hold no answers.
        InputError: its tables, as in ``load_benchmark``; or too few names, or nothing to teach or to examine.
    """
    node = compose_choice("benchmark", settings.benchmark)
    if "perceive" not in node:
        raise ConfigError(f"specialists.lessons.{name}.benchmark={settings.benchmark}: expected a panel")
    template = in_language("prompt", node["prompt"], language, settings.benchmark)
    wording = read_wording(settings.benchmark, template, int(node["listed"]))
    shared = {**node, "root": root, "train_limit": None, "validation_limit": None, "training": "every"}

    def load(perceive: str) -> Benchmark:
        overrides = {**shared, "perceive": perceive}
        return load_benchmark(SuiteRequest((settings.benchmark,), overrides, language, seed), settings.benchmark)

    perceived = load(settings.perceive)
    (modality,) = {entity.modality for entity in perceived.train[0].entities()}
    pairs = exam_pairs(perceived.validation)
    where = f"specialists.lessons.{name}: {settings.benchmark}"
    if not pairs:
        raise InputError(f"{where} has no matched validation questions to examine with")
    if isinstance(perceived.train[0].prompt[-1], Entity):
        words = load("none")
        if not records_hold_names(words.train, wording):
            raise ConfigError(f"{where} describes no first entity by a record, so its second one cannot be looked up")
        entities = _entities_by_name(perceived, words, wording)
        return Identity(name, modality, _with_names(wording, entities, where), entities, pairs)
    answers = _answers_by_entity(perceived.train, wording)
    mixed_answers = {value: by_name for value, by_name in answers.items() if len(set(by_name.values())) == 2}
    if not mixed_answers:
        raise InputError(f"{where} has no {modality} with both answers to teach")
    names = {name for by_name in answers.values() for name in by_name}
    return Relation(name, modality, _with_names(wording, names, where), mixed_answers, pairs)


def _with_names(wording: Wording, names: Collection[str], where: str) -> Wording:
    if len(names) < FEWEST_NAMES:
        raise InputError(f"{where} names {', '.join(sorted(names))}: expected {FEWEST_NAMES} names or more")
    return replace(wording, names=tuple(sorted(names)))


def records_hold_names(examples: Sequence[Example], wording: Wording) -> bool:
    """Whether the answer to each question's name stands in its words."""
    for example in examples:
        record, _, name = "".join(map(str, example.prompt)).rpartition(wording.middle)
        if name + (NO, YES)[example.answer] not in record:
            return False
    return True


def exam_pairs(examples: Sequence[Example]) -> list[Pair]:
    """Questions that agree in all but what stands last, a no beside a yes, each question once."""
    by_beginning: dict[Prompt, tuple[list[Example], list[Example]]] = {}
    for example in examples:
        by_beginning.setdefault(_beginning(example.prompt), ([], []))[example.answer].append(example)
    return [pair for no, yes in by_beginning.values() for pair in zip(no, yes, strict=False)]


def _beginning(prompt: Prompt) -> Prompt:
    """A question up to its last line."""
    last = max(index for index, segment in enumerate(prompt) if isinstance(segment, str) and "\n" in segment)
    return (*prompt[:last], str(prompt[last]).rpartition("\n")[0])


def _answers_by_entity(examples: Sequence[Example], wording: Wording) -> dict[str, dict[str, bool]]:
    answers: dict[str, dict[str, bool]] = {}
    for example in examples:
        (entity,) = example.entities()
        name = str(example.prompt[-1]).removeprefix(wording.middle)
        answers.setdefault(entity.value, {})[name] = bool(example.answer)
    return answers


def _entities_by_name(perceived: Benchmark, words: Benchmark, wording: Wording) -> dict[str, list[str]]:
    named = {example.id: "".join(map(str, example.prompt)).rpartition(wording.middle)[2] for example in words.train}
    entities: dict[str, dict[str, None]] = {}
    for example in perceived.train:
        (entity,) = example.entities()
        entities.setdefault(named[example.id], {})[entity.value] = None
    return {name: list(entities[name]) for name in sorted(entities)}
