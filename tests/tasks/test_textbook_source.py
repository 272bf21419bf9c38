from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from esmerge.core.compose import choices, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer, Benchmark, Entity
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.textbook import TextbookQuestions, textbook_questions
from esmerge.world.curriculum import Mix, perception_batch, reading_batch
from esmerge.world.entities import world_and_pools
from esmerge.world.language import HEADS, NAMES, WORDINGS, vocabulary
from esmerge.world.questions import PAIR_FORMS, SINGLE_FORMS, topics_of
from esmerge.world.world import World, WorldSettings

WORLD = WorldSettings(train_entities=60, validation_entities=24, test_entities=36, questions=60, train_questions=24)


def embedded() -> dict[str, dict]:
    """The config of every benchmark of the embedded world, by name."""
    configs = compose_choices("benchmark", choices("benchmark"))
    return {name: node for name, node in configs.items() if node.get("source") == "textbook"}


def load(name: str, seed: int = 0, limit: int | None = None) -> Benchmark:
    node = embedded()[name]
    settings = TextbookQuestions(node["topic"], node["form"])
    return textbook_questions(
        settings, BenchmarkRequest(name, "textbook", seed, limit, world=WORLD, title=node["title"])
    )


def kinds_of(entities: tuple[Entity, ...], seed: int = 0) -> list[int]:
    pools = world_and_pools(seed, WORLD)[1]
    return [int(pools.test[e.modality].kinds[pools.test[e.modality].values.index(e.value)]) for e in entities]


def truth(world: World, topic: str, kinds: list[int]) -> int:
    """The answer from the tables, by the definition of each rule."""
    if topic in HEADS:
        return kinds[0]
    if topic == "combine":
        return int(world.kill[kinds[0], kinds[2]] and world.kill[kinds[1], kinds[2]])
    table = {"bind": world.bind, "kill": world.kill, "clash": world.clash}[topic]
    return int(table[kinds[0], kinds[1]])


@pytest.mark.parametrize("name", sorted(embedded()))
def test_answers_are_true_balanced_and_about_unseen_entities(name: str) -> None:
    benchmark, topic = load(name), embedded()[name]["topic"]
    world, pools = world_and_pools(0, WORLD)
    for example in benchmark.test:
        assert example.answer == truth(world, topic, kinds_of(example.entities()))
        assert len(set(example.entities())) == len(example.entities())
    counts = Counter(example.answer for example in benchmark.test)
    assert set(counts) == set(range(len(benchmark.labels))) and len(set(counts.values())) == 1
    for split, pool in (("train", pools.train), ("validation", pools.validation), ("test", pools.test)):
        examples = getattr(benchmark, split)
        assert all(e.value in pool[e.modality].values for example in examples for e in example.entities())
    ids = [e.id for e in (*benchmark.train, *benchmark.validation, *benchmark.test)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", sorted(embedded()))
def test_every_wording_is_asked_and_the_backbone_knows_every_word(name: str) -> None:
    benchmark, topic = load(name), embedded()[name]["topic"]
    wordings = {str(example.prompt[-1]).removesuffix(" ? ") for example in benchmark.test}
    assert wordings == set(WORDINGS[topic])
    words = set(vocabulary())
    texts = [segment for example in benchmark.test for segment in example.prompt if isinstance(segment, str)]
    assert {word for text in (*texts, *benchmark.labels) for word in text.split()} <= words


def test_a_limit_keeps_the_first_questions_and_leaves_the_training_split() -> None:
    benchmark, part = load("drug_protein"), load("drug_protein", limit=10)
    assert part.test == benchmark.test[:10] and part.train == benchmark.train
    assert Counter(example.answer for example in part.test) == {0: 5, 1: 5}
    assert load("drug_protein", limit=10_000).test == benchmark.test
    assert part.checksum == benchmark.checksum, "answers under two limits are about the same questions"


def test_the_seed_decides_and_shows_in_the_checksum() -> None:
    assert load("drug_cell").checksum == load("drug_cell").checksum
    assert len({load("drug_cell").checksum, load("drug_cell", seed=1).checksum, load("drug_protein").checksum}) == 3


@pytest.mark.parametrize(
    ("topic", "form", "message"),
    [
        ("bind", ["molecule"], "expected one of molecule"),
        ("frighten", ["molecule", "protein"], "expected one of molecule, protein, bind"),
        ("molecule", ["molecule", "gene"], "a form is made of molecule, protein, cell"),
        ("molecule", [], "expected one of nothing"),
    ],
)
def test_questions_that_a_scene_cannot_answer_are_refused(topic: str, form: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"topic='{topic}' cannot be asked about form=.*{message}"):
        TextbookQuestions(topic, form)


def test_specialists_from_elsewhere_are_sent_away() -> None:
    with pytest.raises(ConfigError, match="drug_cell needs specialists that live in the embedded world"):
        textbook_questions(TextbookQuestions("kill", ["molecule", "cell"]), BenchmarkRequest("drug_cell", "english", 0))


def test_each_form_has_its_topics() -> None:
    assert topics_of(("molecule", "protein", "cell")) == ["molecule", "protein", "cell", "bind", "kill"]
    assert topics_of(("molecule", "molecule", "cell")) == ["cell", "clash", "combine"]
    assert topics_of(("cell",)) == ["cell"]
    assert {topic for form in (*PAIR_FORMS, *SINGLE_FORMS) for topic in topics_of(form)} == set(WORDINGS)


def scene_of(segments: tuple) -> dict[str, list[int]]:
    """modality -> kinds named in the text of a reading scene."""
    kinds: dict[str, list[int]] = {modality: [] for modality in HEADS}
    for head, text in zip(segments, segments[1:], strict=False):
        for modality, word in HEADS.items():
            if head == f"{word} : " and isinstance(text, str):
                mentions = {k for k, names in enumerate(NAMES[modality]) for w in text.split() if w in names}
                kinds[modality] += sorted(mentions)
    return kinds


def test_the_textbook_tells_the_truth() -> None:
    world, count = world_and_pools(0, WORLD)[0], 0
    for step in range(0, 100, 5):
        for segments in reading_batch(world, 0, step, 100, 16)[0]:
            kinds = scene_of(segments)
            for question, answer in zip(segments, segments[1:], strict=False):
                if not isinstance(answer, Answer) or not str(question).endswith(" ? "):
                    continue
                topic = next(t for t, wordings in WORDINGS.items() if str(question).removesuffix(" ? ") in wordings)
                drugs, others = kinds["molecule"], kinds["protein" if topic == "bind" else "cell"]
                if topic in HEADS and kinds[topic]:
                    assert answer.text == NAMES[topic][kinds[topic][0]][0]
                elif topic == "clash":
                    assert answer.text == ("no", "yes")[int(world.clash[drugs[0], drugs[-1]])]
                elif drugs and others:
                    table = world.bind if topic == "bind" else world.kill
                    assert answer.text == ("no", "yes")[all(table[drug, others[0]] for drug in drugs)]
                else:
                    continue
                count += 1
    assert count > 500


@pytest.mark.parametrize("modality", HEADS)
def test_a_specialist_perceives_its_own_training_entities_and_reads_the_rest(modality: str) -> None:
    world, pools = world_and_pools(0, WORLD)
    batch = [p for step in range(5) for p in perception_batch(world, pools, Mix(modality), 0, step, 16)]
    entities = [segment for segments in batch for segment in segments if isinstance(segment, Entity)]
    assert {e.modality for e in entities} == {modality}
    assert {e.value for e in entities} <= set(pools.train[modality].values)
    assert any(not any(isinstance(p, Entity) for p in segments) for segments in batch), "some scenes are text only"


def test_batches_depend_on_seed_and_step_alone() -> None:
    world, pools = world_and_pools(0, WORLD)
    assert reading_batch(world, 0, 5, 100, 4) == reading_batch(world, 0, 5, 100, 4)
    assert reading_batch(world, 0, 5, 100, 4) != reading_batch(world, 0, 6, 100, 4)
    first, second = (perception_batch(world, pools, Mix("cell"), 0, step, 4) for step in (1, 2))
    assert first == perception_batch(world, pools, Mix("cell"), 0, 1, 4) != second


def test_reading_weights_fit_the_sequences() -> None:
    world = world_and_pools(0, WORLD)[0]
    sequences, weights = reading_batch(world, 0, 0, 100, 16)
    assert len(sequences) == len(weights) and np.all(np.array(weights) > 0)
