"""What questions share is read once, and nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from tests import small
from transformers import MistralConfig, MistralForCausalLM

from esmerge.core.prompts import Entity, Example
from esmerge.model.prefix import common_start, shared_prefix
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score

TEXT = "drug : not at all ; maybe ? " * 3
SHOT = (TEXT, Entity("molecule", "CCO"), " ; protein : ", Entity("protein", "MKTAY"), " ? yes ; ")
STARTS = {"text": (TEXT,), "solved questions": SHOT, "ends in an entity": (*SHOT, Entity("cell", "ALB CD4"))}
LABELS = ("no", "yes not at all", "yes not at no", "maybe at all no yes")


@pytest.fixture(scope="module")
def prompt_encoder() -> PromptEncoder:
    return small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"}).prompt_encoder


def questions(start: tuple, labels: tuple[str, ...], count: int = 9) -> list[Example]:
    words = list(small.GENES)
    prompts = [(*start, Entity("molecule", "C" * (1 + i % 4)), " ".join(words[: i % 5]) + " ? ") for i in range(count)]
    return [Example(str(i), prompt, labels, 0) for i, prompt in enumerate(prompts)]


@contextmanager
def passes(prompt_encoder: PromptEncoder) -> Iterator[list[tuple[int, int]]]:
    """Rows and positions of every pass of the backbone."""
    shapes: list[tuple[int, int]] = []
    model = prompt_encoder.backbone.model

    def note(module: object, args: object, kwargs: dict) -> None:
        shapes.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        hook.remove()


def shortened(shapes: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The same passes without the start in prompts; what is read on after a stem never held it."""
    return [(rows, width - length if width > length else width) for rows, width in shapes]


@pytest.mark.parametrize("labels", [("no", "yes"), LABELS], ids=["one token", "branches"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_scores_are_those_of_prompts_read_whole(
    prompt_encoder: PromptEncoder, start: tuple, labels: tuple[str, ...], batch_size: int
) -> None:
    examples = questions(start, labels)
    with passes(prompt_encoder) as shared_shapes:
        scores = score(prompt_encoder, examples, batch_size)
    with passes(prompt_encoder) as full_shapes:
        expected = score(prompt_encoder, examples, batch_size, shortest_prefix=10_000)
    assert torch.allclose(scores.loglik, expected.loglik, atol=1e-5) and scores.greedy == expected.greedy
    length = len(prompt_encoder.encode([start])[0].ids)
    assert shared_shapes[0] == (1, length)
    assert shared_shapes[1:] == shortened(full_shapes, length)


def test_the_shared_start_is_that_of_the_adapter_that_is_active() -> None:
    specialists = small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"})
    examples = questions((TEXT,), ("no", "yes"))
    with specialists.backbone.attached(specialists.adapters) as activate:
        activate("mol")
        first = score(specialists.prompt_encoder, examples, 4).loglik
        activate(None)
        bare = score(specialists.prompt_encoder, examples, 4).loglik
        activate("mol")
        assert torch.equal(score(specialists.prompt_encoder, examples, 4).loglik, first) and not torch.allclose(
            first, bare
        )


def test_a_window_of_attention_does_not_see_padding_in_its_middle() -> None:
    specialists = small.specialists({"mol": "molecule"})
    config = MistralConfig(
        **{**specialists.backbone.model.config.to_dict(), "sliding_window": 20, "model_type": "mistral"}
    )
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval().requires_grad_(False)
    windowed = PromptEncoder(replace(specialists.backbone, model=model), specialists.encoders)
    examples = questions((TEXT,), ("no", "yes"))
    expected = torch.cat([score(windowed, [example], 1).loglik for example in examples])
    assert torch.allclose(score(windowed, examples, 4).loglik, expected, atol=1e-5)


def test_a_short_start_is_read_again(prompt_encoder: PromptEncoder) -> None:
    assert shared_prefix(prompt_encoder, [("drug : ", "one"), ("drug : ", "two")]).length == 0


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([], ()),
        ([("a", "b")], ()),
        ([("a", "b"), ("a", "c")], ("a",)),
        ([("a", "b"), ("a", "b")], ("a",)),
        ([("a",), ("a", "b")], ()),
        ([("a", "b"), ("c", "b")], ()),
        ([("a", Entity("m", "C"), "x"), ("a", Entity("m", "C"), "y")], ("a", Entity("m", "C"))),
        ([("a", Entity("m", "C"), "x"), ("a", Entity("p", "C"), "x")], ("a",)),
    ],
)
def test_what_prompts_have_in_common(prompts: list, expected: tuple) -> None:
    assert common_start(prompts) == expected
