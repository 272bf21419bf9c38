"""The embedded world's benchmarks: one question about one scene, every entity perceived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.core.rng import generator
from esmerge.tasks.api import SOURCES, BenchmarkRequest, SourceConfig
from esmerge.world.entities import Pool, world_and_pools
from esmerge.world.language import HEADS, NO, YES, kind_answers
from esmerge.world.questions import Form, draw_scene, phrase_question, scene_pieces, solve, topics_of
from esmerge.world.world import World, WorldSettings


@dataclass(frozen=True)
class TextbookQuestions(SourceConfig):
    """Settings of an embedded benchmark.

    Attributes:
        topic: ``bind``, ``kill``, ``clash``, ``combine``, or a modality, for questions about its kind.
        form: modalities of the scene, in order.
    """

    topic: str
    form: list[str]

    def __post_init__(self) -> None:
        topics = topics_of(self.form) if set(self.form) <= set(HEADS) else []
        if self.topic not in topics:
            raise ConfigError(
                f"topic={self.topic!r} cannot be asked about form={list(self.form)}: expected one of "
                f"{', '.join(topics) or 'nothing'}; a form is made of {', '.join(HEADS)}"
            )


@SOURCES.register("textbook", TextbookQuestions)
def textbook_questions(settings: TextbookQuestions, request: BenchmarkRequest) -> Benchmark:
    """Questions on unseen entities, answers in equal numbers (for rules, as far as the draw allows).

    A limit takes the first ones. The checksum is of all of them, as a table's is, so that answers under two limits are
    compared question by question.
    """
    if not isinstance(request.world, WorldSettings):
        raise ConfigError(f"benchmark {request.name} needs specialists that live in the embedded world: textbook")
    if request.seen is not None:
        raise ConfigError(f"benchmark.seen={request.seen}: {request.name} asks about new entities alone: leave it out")
    world, pools = world_and_pools(request.seed, request.world)
    count = request.world.train_questions

    def split(name: str, pool: dict[str, Pool], size: int) -> tuple[Example, ...]:
        return _questions(world, settings, pool, f"{request.name}-{name}", size)

    train, validation = split("train", pools.train, count), split("validation", pools.validation, count)
    test = split("test", pools.test, request.world.questions)
    labels = kind_answers(settings.topic) if settings.topic in HEADS else (NO, YES)
    checksum = hashlib.sha256(repr((train, validation, test)).encode()).hexdigest()
    limited = test[: request.limit]
    return Benchmark(request.name, request.title, request.family, labels, train, validation, limited, checksum)


def _questions(
    world: World, settings: TextbookQuestions, pool: dict[str, Pool], stream: str, count: int
) -> tuple[Example, ...]:
    """``count`` examples; each answer is drawn first, so that answers come in equal numbers."""
    rng = generator(world.seed, stream)
    labels = kind_answers(settings.topic) if settings.topic in HEADS else (NO, YES)
    examples = []
    for index in range(count):
        examples.append(_question(world, settings, pool, labels, index % len(labels), f"{stream}-{index}", rng))
    return tuple(examples)


def _question(
    world: World,
    settings: TextbookQuestions,
    pool: dict[str, Pool],
    labels: tuple[str, ...],
    answer: int,
    name: str,
    rng: np.random.Generator,
) -> Example:
    def show(modality: str, kind: int, r: np.random.Generator) -> Entity:
        return Entity(modality, pool[modality].values[pool[modality].choose(kind, r)])

    form: Form = tuple(settings.form)
    scene = draw_scene(world, form, show, rng)
    while solve(world, scene, settings.topic) != answer or len({slot.shown for slot in scene}) < len(scene):
        scene = draw_scene(world, form, show, rng)
    prompt = (*scene_pieces(scene), phrase_question(settings.topic, int(rng.integers(3))))
    return Example(name, prompt, labels, answer)
