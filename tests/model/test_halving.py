"""Batches that are too large: halved, done again, and the same answers as if they had been small from the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests import small

from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity, Example
from esmerge.model.generation import generate
from esmerge.model.halving import Halving
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")


@pytest.fixture(scope="module")
def prompt_encoder() -> PromptEncoder:
    return small.specialists({"mol": "molecule", "gene": "cell"}).prompt_encoder


def examples(count: int) -> list[Example]:
    genes = list(small.GENES)
    return [
        Example(str(i), ("drug : ", Entity("molecule", "CCO"), " ".join(genes[: i % 4]) + " ? "), ("no", "yes"), 0)
        for i in range(count)
    ]


@contextmanager
def room_for(prompt_encoder: PromptEncoder, rows: int) -> Iterator[list[int]]:
    """A model that runs out of memory with more rows; yields the numbers of rows that it was called with."""
    row_counts: list[int] = []

    def refuse(model: object, args: object, kwargs: dict[str, Any]) -> None:
        row_counts.append(len(kwargs["inputs_embeds"]))
        if row_counts[-1] > rows:
            raise FULL

    handle = prompt_encoder.backbone.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield row_counts
    finally:
        handle.remove()


def test_scores_are_those_of_small_batches(prompt_encoder: PromptEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    questions = examples(11)
    expected = score(prompt_encoder, questions, 2)
    with room_for(prompt_encoder, 2) as row_counts:
        scores = score(prompt_encoder, questions, 8)
    assert scores.greedy == expected.greedy
    torch.testing.assert_close(scores.loglik, expected.loglik)
    assert [rows for rows in row_counts if rows > 2] == [8, 4]  # each size is tried once, later batches start small
    output = capsys.readouterr().err
    assert "out of memory with 8 prompts" in output and "compute.batch_size=2" in output


def test_texts_are_those_of_small_batches(prompt_encoder: PromptEncoder) -> None:
    questions = examples(7)
    expected = generate(prompt_encoder, questions, 3, max_new_tokens=3)
    with room_for(prompt_encoder, 3):
        assert generate(prompt_encoder, questions, 7, max_new_tokens=3) == expected


def test_a_prompt_that_has_no_room_alone_is_refused(prompt_encoder: PromptEncoder) -> None:
    with (
        room_for(prompt_encoder, 0),
        pytest.raises(InputError, match=r"one of the prompts alone finds no room in memory \(CUDA out of memory"),
    ):
        score(prompt_encoder, examples(4), 4, shortest_prefix=10_000)


@pytest.mark.parametrize(("count", "room"), [(1, 1), (8, 3), (9, 2), (5, 100)])
def test_every_item_is_done_once_and_in_order(count: int, room: int) -> None:
    done: list[int] = []

    def work(items: Sequence[int]) -> None:
        if len(items) > room:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        done.extend(items)

    halving = Halving("numbers", "size")
    for start in (0, count):
        halving.run(range(start, start + count), work)
    assert done == list(range(2 * count))


def test_other_errors_pass() -> None:
    def work(items: Sequence[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Halving("numbers", "size").run(range(4), work)
