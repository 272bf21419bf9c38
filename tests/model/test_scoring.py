"""Scores against a naive computation: one sequence at a time, one label at a time, no padding, no sharing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import small
from transformers import MistralConfig, MistralForCausalLM

from esmerge.core.errors import ConfigError, InputError, NumberError
from esmerge.core.prompts import Answer, Entity, Example
from esmerge.experiment.config import Compute
from esmerge.model import scoring
from esmerge.model.batching import WINDOW
from esmerge.model.generation import generate
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import Scores, score
from esmerge.storage.journal import Journal

LABELS = ("no", "yes not at all", "yes not at no", "not at", "maybe at all no yes", "yes")
SHOWN = (
    ("drug : ", Entity("molecule", "CCO"), " ; ? "),
    ("cell : ", Entity("cell", "ALB TTR CD4 CD8A KRT5"), " ; drug : ", Entity("molecule", "CCN"), " ; maybe ? "),
    ("drug : not at all ; ? ",),
    ("protein : ", Entity("protein", "MKTAY"), " ; cell : ", Entity("cell", "SOX2"), " ? "),
)


def examples(count: int, labels: tuple[str, ...] = LABELS) -> list[Example]:
    """Prompts of different lengths, each with a tail of its own."""
    words = list(small.GENES)
    return [
        Example(str(i), (*SHOWN[i % len(SHOWN)], " ".join(words[: i % 5]) + " ? "), labels, i % len(labels))
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def prompt_encoder() -> PromptEncoder:
    return small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"}).prompt_encoder


def naive(prompt_encoder: PromptEncoder, questions: Sequence[Example]) -> tuple[torch.Tensor, list[str]]:
    """log P(label | prompt) token by token, and the word that is most probable after the prompt."""
    rows, words = [], []
    with torch.no_grad():
        for example in questions:
            row = []
            for label in example.labels:
                batch = prompt_encoder.batch([(*example.prompt, Answer(label))])
                ids = prompt_encoder.backbone.tokenizer(label, add_special_tokens=False)["input_ids"]
                logits = prompt_encoder.backbone.model(inputs_embeds=batch.embeds).logits[0].double()
                before = logits.shape[0] - len(ids) - 1
                row.append(sum(float(logits[before + k].log_softmax(-1)[token]) for k, token in enumerate(ids)))
            rows.append(row)
            words.append(prompt_encoder.backbone.tokenizer.convert_ids_to_tokens(int(logits[before].argmax())))
    return torch.tensor(rows, dtype=torch.float64), words


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_loglikelihoods_equal_the_naive_ones_at_any_batch_size(prompt_encoder: PromptEncoder, batch_size: int) -> None:
    questions = examples(11)
    scores, (expected, words) = score(prompt_encoder, questions, batch_size), naive(prompt_encoder, questions)
    assert scores.loglik.shape == (11, len(LABELS)) and scores.loglik.dtype == torch.float64
    assert torch.allclose(scores.loglik, expected, atol=1e-5)
    assert scores.greedy == words


def test_labels_may_differ_between_examples(prompt_encoder: PromptEncoder) -> None:
    questions = [*examples(3, ("no", "yes at")), *examples(3, ("not at all", "maybe"))]
    assert torch.allclose(score(prompt_encoder, questions, 4).loglik, naive(prompt_encoder, questions)[0], atol=1e-5)


def test_windows_do_not_mix_examples_up_and_report_their_progress(prompt_encoder: PromptEncoder) -> None:
    questions, progress = examples(2 * WINDOW + 3, ("no", "yes")), []
    scores = score(prompt_encoder, questions, 1, progress.append)
    assert torch.allclose(scores.loglik, naive(prompt_encoder, questions)[0], atol=1e-5)
    assert progress == [WINDOW, WINDOW, 3]


def test_probabilities_of_all_words_sum_to_one(prompt_encoder: PromptEncoder) -> None:
    words = tuple(prompt_encoder.backbone.tokenizer.get_vocab())
    (row,) = score(prompt_encoder, [Example("all", SHOWN[0], words, 0)], 8).loglik
    assert float(row.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_without_a_start_token(prompt_encoder: PromptEncoder) -> None:
    plain = PromptEncoder(small.backbone(start=False), prompt_encoder.encoders)
    questions = examples(4)
    assert torch.allclose(score(plain, questions, 3).loglik, naive(plain, questions)[0], atol=1e-5)


def test_nothing_to_ask_gives_nothing(prompt_encoder: PromptEncoder) -> None:
    scores = score(prompt_encoder, [], 4)
    assert scores.greedy == [] and scores.loglik.numel() == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("no", " "), r"label ' ' of example 0 has no tokens"), (("no", "yes", "no "), r"two have the same tokens")],
)
def test_labels_that_cannot_be_told_apart_are_refused(
    prompt_encoder: PromptEncoder, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score(prompt_encoder, examples(1, labels), 4)


@pytest.mark.parametrize("labels", [LABELS, ("no", "yes"), ("not at all", "not at no"), ("no", "not at all")])
def test_predictions_do_not_depend_on_the_batch_size(prompt_encoder: PromptEncoder, labels: tuple[str, ...]) -> None:
    questions = examples(29, labels)
    expected = score(prompt_encoder, questions, 1)
    for batch_size in (2, 3, 7, 29, 64):
        scores = score(prompt_encoder, questions, batch_size)
        assert torch.allclose(scores.loglik, expected.loglik, rtol=0, atol=1e-5)
        assert scores.loglik.argmax(dim=1).equal(expected.loglik.argmax(dim=1)) and scores.greedy == expected.greedy


def test_results_keep_the_order_of_the_questions(prompt_encoder: PromptEncoder) -> None:
    questions = examples(23)
    scores, reversed_scores = score(prompt_encoder, questions, 4), score(prompt_encoder, questions[::-1], 4)
    assert (
        torch.allclose(scores.loglik, reversed_scores.loglik.flip(0), rtol=0, atol=1e-5)
        and scores.greedy == reversed_scores.greedy[::-1]
    )


def test_more_branches_than_are_read_at_once(prompt_encoder: PromptEncoder) -> None:
    questions = examples(7)
    with passes(prompt_encoder) as shapes:
        scores = score(prompt_encoder, questions, 2, branches_at_once=1)
    assert torch.allclose(scores.loglik, naive(prompt_encoder, questions)[0], atol=1e-5)
    assert max(rows for rows, _ in shapes) == 2


@contextmanager
def passes(prompt_encoder: PromptEncoder) -> Iterator[list[tuple[int, int]]]:
    """(rows, positions) of each forward pass."""
    shapes: list[tuple[int, int]] = []

    def remember(module: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        shapes.append((kwargs["inputs_embeds"].shape[0], kwargs["inputs_embeds"].shape[1]))

    hook = prompt_encoder.backbone.model.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        yield shapes
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("labels", "extra"),
    [
        (("no", "yes", "maybe"), []),  # one position tells them all
        (("not at all", "not at no"), []),  # "not at" is read with the prompt
        (("no", "not at all"), [(3, 2)]),  # "not at" is read after it, "no" needs nothing
        (("yes not at all", "yes maybe no"), [(6, 2)]),  # "not at" and "maybe" after the prompt and "yes"
    ],
)
def test_a_prompt_is_read_once_for_all_labels(
    prompt_encoder: PromptEncoder, labels: tuple[str, ...], extra: list
) -> None:
    questions = examples(3, labels)
    longest = max(len(encoded.ids) for encoded in prompt_encoder.encode([example.prompt for example in questions]))
    with passes(prompt_encoder) as shapes:
        score(prompt_encoder, questions, 3)
    stem = {"not at all": 2, "yes not at all": 1}.get(labels[0], 0)
    assert shapes == [(3, longest + stem), *extra]


def test_a_window_of_attention_is_kept_while_reading_on() -> None:
    specialists = small.specialists({"mol": "molecule"})
    config = MistralConfig(
        **{**specialists.backbone.model.config.to_dict(), "sliding_window": 6, "model_type": "mistral"}
    )
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval().requires_grad_(False)
    windowed = PromptEncoder(replace(specialists.backbone, model=model), specialists.encoders)
    questions = examples(9)
    assert torch.allclose(score(windowed, questions, 4).loglik, naive(windowed, questions)[0], atol=1e-5)


def test_the_mean_per_token_forgives_length(prompt_encoder: PromptEncoder) -> None:
    questions = examples(6)
    scores = score(prompt_encoder, questions, 4)
    assert scores.lengths.tolist() == [[1, 4, 4, 2, 5, 1]] * 6
    assert torch.allclose(scores.per_token().loglik, naive(prompt_encoder, questions)[0] / scores.lengths, atol=1e-5)
    certain = Scores(torch.tensor([[-3.0, -4.0]], dtype=torch.float64), ["no"], torch.tensor([[1, 4]]))
    assert certain.loglik.argmax() == 0 and certain.per_token().loglik.argmax() == 1


def test_the_default_way_of_asking_leaves_no_trace() -> None:
    assert Compute().scoring == "loglik" and Compute(max_new_tokens=3, batch_size=1).scoring_overrides() == {}
    assert Compute(scoring="loglik_normalised", max_new_tokens=3).scoring_overrides() == {
        "scoring": "loglik_normalised"
    }
    assert Compute(scoring="generate", max_new_tokens=3).scoring_overrides() == {
        "scoring": "generate",
        "max_new_tokens": 3,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scoring": "guess"}, r"compute.scoring='guess': expected one of loglik, loglik_normalised, generate"),
        ({"max_new_tokens": 0}, r"compute.max_new_tokens=0: expected a number from 1"),
    ],
)
def test_unknown_ways_of_asking_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Compute(**settings)


def overflowing(start_layer: int) -> PromptEncoder:
    """A backbone whose numbers overflow in float16 from a layer on, and not in float32."""
    encoder = small.specialists({"mol": "molecule", "gene": "cell"}).prompt_encoder
    model = encoder.backbone.model
    for layer in model.model.layers[start_layer:]:
        layer.mlp.down_proj.weight.mul_(3e5)
    return encoder


@pytest.mark.parametrize("start_layer", [0, 2])
def test_scores_that_are_no_numbers_are_refused_with_the_place_and_the_format(start_layer: int) -> None:
    encoder = overflowing(start_layer)
    assert score(encoder, examples(5), 3).loglik.isfinite().all(), "float32 holds them"
    encoder.backbone.model.half()
    message = (
        rf"example \d: the log-likelihood of label '.*' is nan in float16, .* in decoder layer {start_layer}: load"
    )
    with pytest.raises(NumberError, match=message):
        score(encoder, examples(5), 3)


def test_a_next_word_that_cannot_be_told_is_refused() -> None:
    encoder = overflowing(1)
    encoder.backbone.model.half()
    with pytest.raises(NumberError, match=r"example \d: the scores of the next word .* float16, .* decoder layer 1"):
        generate(encoder, examples(5, ("no", "yes")), 3, 4)


class Killed(Exception):
    """Stands for a kill."""


def test_scoring_that_was_killed_goes_on_after_the_last_batch_with_the_same_numbers(
    prompt_encoder: PromptEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, path, remaining = examples(3 * WINDOW), tmp_path / "answers.jsonl", [4]
    expected, read = score(prompt_encoder, questions, 3), scoring._read

    def counted(*arguments: Any) -> Any:
        if not remaining[0]:
            raise Killed
        remaining[0] -= 1
        return read(*arguments)

    monkeypatch.setattr(scoring, "_read", counted)
    with pytest.raises(Killed):
        score(prompt_encoder, questions, 3, journal=Journal(path))
    assert len(Journal(path)) == 3, "all but the one that was on its way"
    remaining[0] = WINDOW - 3  # what is left of the batches, and none more
    resumed = score(prompt_encoder, questions, 3, journal=Journal(path))
    assert torch.equal(resumed.loglik, expected.loglik) and resumed.greedy == expected.greedy
