"""Questions all of whose entities the specialists were taught are pointed out."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.experiment.familiar import warn_of_familiar_questions
from esmerge.specialists.specialists import Specialists

TAUGHT = {"molecule": ("CCO", "CCN"), "protein": ("MKV",)}


def benchmark(name: str, *questions: tuple[tuple[str, str], ...]) -> Benchmark:
    prompts = [("Given ", *(Entity(modality, value) for modality, value in question), "?") for question in questions]
    examples = tuple(Example(str(row), prompt, (" no", " yes"), 0) for row, prompt in enumerate(prompts))
    return Benchmark(name, name, "cross_modal", (" no", " yes"), (), (), examples, repr(questions))


def warned(specialists: Specialists, *suite: Benchmark) -> list[str]:
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        warn_of_familiar_questions(suite, specialists)
    return [str(record.message) for record in records]


@pytest.fixture
def taught(tiny_specialists: Specialists) -> Specialists:
    return replace(tiny_specialists, taught=TAUGHT, fingerprint="taught")


def test_they_are_counted_by_benchmark(taught: Specialists) -> None:
    familiar, half = (("molecule", "CCO"), ("protein", "MKV")), (("molecule", "CCO"), ("protein", "MLL"))
    (message,) = warned(
        taught, benchmark("a", familiar, half, familiar), benchmark("b", half), benchmark("c", familiar)
    )
    assert "taught all entities of 2 of 3 of a, 1 of 1 of c questions" in message
    assert "src.train … seen=DIR" in message and "benchmark.seen=DIR" in message


def test_what_holds_something_new_or_nothing_is_not(taught: Specialists) -> None:
    new = (("molecule", "CCO"), ("cell", "CD3D")), (("molecule", "CCC"),), ()
    assert warned(taught, benchmark("d", *new)) == []
    assert warned(replace(taught, taught={}, fingerprint="nothing"), benchmark("d", (("molecule", "CCO"),))) == []
