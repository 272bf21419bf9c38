"""Questions whose entities an encoder refuses are rejects before anybody is asked; too many stop the load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from esmerge.core.errors import InputError
from esmerge.core.prompts import Benchmark, Entity, Example, Reject
from esmerge.tasks.perceivable import perceivable


def example(side: str, number: int) -> Example:
    prompt = ("Molecule: ", Entity("molecule", f"{side}{number}"), " Protein: ", Entity("protein", "MK"))
    return Example(f"{side}:{number}", prompt, (" No", " Yes"), number % 2)


BENCHMARK = Benchmark(
    *("toy", "Toy", "cross_modal", (" No", " Yes")),
    *(tuple(example(side, number) for number in range(4)) for side in ("train", "validation", "test")),
    checksum="",
    rejects=(Reject("toy.csv:9", "no SMILES"),),
)


@dataclass
class Refusing:
    """Refuses molecules by name, and notes what it was asked."""

    refused: dict[str, str]
    key: str = "refusing"
    asked: list[Entity] = field(default_factory=list)

    def reasons(self, entities: Iterable[Entity]) -> dict[Entity, str]:
        self.asked += entities
        return {Entity("molecule", value): reason for value, reason in self.refused.items()}


def test_examples_of_refused_entities_are_rejects_of_their_split() -> None:
    refusing = Refusing({"test2": "no conformer", "train0": "too many atoms"})
    task = perceivable(BENCHMARK, refusing, limit=0.5)
    assert [e.id for e in task.test] == ["test:0", "test:1", "test:3"]
    assert [e.id for e in task.train] == ["train:1", "train:2", "train:3"] and task.validation == BENCHMARK.validation
    assert task.rejects == (
        Reject("toy.csv:9", "no SMILES"),
        Reject("train:0", "too many atoms"),
        Reject("test:2", "no conformer"),
    )
    assert len(refusing.asked) == len(set(refusing.asked)) == 13, "each entity once"


def test_nothing_changes_where_nothing_is_refused() -> None:
    assert perceivable(BENCHMARK, None, 0.5) is BENCHMARK
    assert perceivable(BENCHMARK, Refusing({}), 0.0) is BENCHMARK


def test_more_than_the_limit_stops_the_load() -> None:
    refusing = Refusing({"test0": "no conformer", "test1": "no conformer"})
    assert len(perceivable(BENCHMARK, refusing, 2 / 12).test) == 2
    with pytest.raises(InputError, match=r"'toy'.* refuse 2 of 12 examples; .* benchmark\.max_rejects=0\.1 .*t"):
        perceivable(BENCHMARK, refusing, 0.1)


def test_a_split_that_is_emptied_stops_the_load() -> None:
    refusing = Refusing({"validation0": "no conformer"})
    with pytest.raises(InputError, match="all of validation.*validation:0: no conformer"):
        perceivable(replace(BENCHMARK, validation=BENCHMARK.validation[:1]), refusing, 0.5)
