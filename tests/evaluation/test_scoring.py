"""Scores against a naive computation: one sequence at a time, one label at a time, no padding, no sharing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from src.errors import InputError
from src.evaluation.predictions import predictions_frame
from src.evaluation.scoring import WINDOW, Scores, score
from src.specialists.pieces import Answer, Benchmark, Entity, Example
from src.specialists.render import Renderer
from tests import small

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
def renderer() -> Renderer:
    return small.team({"mol": "molecule", "prot": "protein", "gene": "cell"}).renderer


def naive(renderer: Renderer, asked: Sequence[Example]) -> tuple[torch.Tensor, list[str]]:
    """log P(label | prompt) token by token, and the word that is most probable after the prompt."""
    rows, words = [], []
    with torch.no_grad():
        for example in asked:
            row = []
            for label in example.labels:
                batch = renderer.batch([(*example.prompt, Answer(label))])
                ids = renderer.backbone.tokenizer(label, add_special_tokens=False)["input_ids"]
                logits = renderer.backbone.model(inputs_embeds=batch.embeds).logits[0].double()
                before = logits.shape[0] - len(ids) - 1
                row.append(sum(float(logits[before + k].log_softmax(-1)[token]) for k, token in enumerate(ids)))
            rows.append(row)
            words.append(renderer.backbone.tokenizer.convert_ids_to_tokens(int(logits[before].argmax())))
    return torch.tensor(rows, dtype=torch.float64), words


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_loglikelihoods_equal_the_naive_ones_at_any_batch_size(renderer: Renderer, batch_size: int) -> None:
    asked = examples(11)
    found, (expected, words) = score(renderer, asked, batch_size), naive(renderer, asked)
    assert found.loglik.shape == (11, len(LABELS)) and found.loglik.dtype == torch.float64
    assert torch.allclose(found.loglik, expected, atol=1e-5)
    assert found.greedy == words


def test_labels_may_differ_between_examples(renderer: Renderer) -> None:
    asked = [*examples(3, ("no", "yes at")), *examples(3, ("not at all", "maybe"))]
    assert torch.allclose(score(renderer, asked, 4).loglik, naive(renderer, asked)[0], atol=1e-5)


def test_windows_do_not_mix_examples_up_and_report_their_progress(renderer: Renderer) -> None:
    asked, told = examples(2 * WINDOW + 3, ("no", "yes")), []
    found = score(renderer, asked, 1, told.append)
    assert torch.allclose(found.loglik, naive(renderer, asked)[0], atol=1e-5)
    assert told == [WINDOW, WINDOW, 3]


def test_probabilities_of_all_words_sum_to_one(renderer: Renderer) -> None:
    words = tuple(renderer.backbone.tokenizer.get_vocab())
    (row,) = score(renderer, [Example("all", SHOWN[0], words, 0)], 8).loglik
    assert float(row.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_without_a_start_token(renderer: Renderer) -> None:
    plain = Renderer(small.backbone(start=False), renderer.encoders)
    asked = examples(4)
    assert torch.allclose(score(plain, asked, 3).loglik, naive(plain, asked)[0], atol=1e-5)


def test_nothing_to_ask_gives_nothing(renderer: Renderer) -> None:
    found = score(renderer, [], 4)
    assert found.greedy == [] and found.loglik.numel() == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("no", " "), r"label ' ' of example 0 has no tokens"), (("no", "yes", "no "), r"two have the same tokens")],
)
def test_labels_that_cannot_be_told_apart_are_refused(
    renderer: Renderer, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score(renderer, examples(1, labels), 4)


def benchmark(labels: tuple[str, ...], answers: Sequence[int]) -> Benchmark:
    test = tuple(Example(f"q{i}", ("? ",), labels, answer) for i, answer in enumerate(answers))
    return Benchmark("b", "B", "retention", labels, (), (), test, "checksum")


def test_predictions_of_a_binary_set_score_the_positive_label() -> None:
    shares = torch.tensor([[0.3, 0.1], [0.2, 0.6]], dtype=torch.float64)
    frame = predictions_frame(benchmark((" no", " yes"), [1, 1]), Scores(shares.log(), ["yes", "drug"]))
    assert list(frame.columns) == ["id", "label", "prediction", "score", "raw_answer", "score:no", "score:yes"]
    assert frame["id"].tolist() == ["q0", "q1"]
    assert frame["label"].tolist() == ["yes", "yes"] and frame["prediction"].tolist() == ["no", "yes"]
    assert frame["score"].tolist() == pytest.approx([0.1 / 0.4, 0.6 / 0.8])
    assert frame["raw_answer"].tolist() == ["yes", "drug"]
    assert frame["score:no"].tolist() == pytest.approx(np.log([0.3, 0.2]).tolist())


def test_predictions_of_more_labels_score_the_predicted_one() -> None:
    shares = torch.tensor([[0.1, 0.2, 0.1], [0.5, 0.2, 0.1]], dtype=torch.float64)
    frame = predictions_frame(benchmark(("a", "b", "c"), [2, 0]), Scores(shares.log(), ["", ""]))
    assert frame["prediction"].tolist() == ["b", "a"] and frame["label"].tolist() == ["c", "a"]
    assert frame["score"].tolist() == pytest.approx([0.2 / 0.4, 0.5 / 0.8])


def test_hopeless_labels_still_give_probabilities() -> None:
    loglik = torch.tensor([[-2000.0, -2001.0]], dtype=torch.float64)
    frame = predictions_frame(benchmark(("no", "yes"), [0]), Scores(loglik, [""]))
    assert frame["score"][0] == pytest.approx(1 / (1 + np.e))
