"""Real rows from table to score, against pinned numbers; ``tests/tasks/golden.py`` says how they are made."""

from __future__ import annotations

import json

import pytest
import torch
from tests.tasks.golden import DATA, FILE, QUESTIONS, names, prompt_encoder, snapshot

from esmerge.core.prompts import Example
from esmerge.model.scoring import score

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))
NAMES = names()


def test_every_benchmark_is_pinned() -> None:
    assert list(GOLDEN) == NAMES


@pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")
@pytest.mark.parametrize("name", NAMES)
def test_rows_become_the_pinned_prompts_ids_spans_and_scores(name: str) -> None:
    numbers, pinned = snapshot(name), GOLDEN[name]
    assert len(numbers["test"]) == QUESTIONS
    scores = [[question.pop("loglik") for question in side] for side in (numbers["test"], pinned["test"])]
    assert numbers == pinned
    for ours, theirs in zip(*scores, strict=True):
        assert ours == pytest.approx(theirs, abs=0.02)


def test_the_pinned_scores_are_sums_of_log_probabilities_of_single_letters() -> None:
    # An independent way to one of the numbers: feed the prompt, read off the chance of each letter of the label.
    reader = prompt_encoder()
    text, label = "drug : C ; high ? ", "Yes"
    ids = [reader.backbone.start_id, *reader.tokens(text), *reader.tokens(label)]
    logits = reader.backbone.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    expected = sum(float(logits[place - 1, ids[place]]) for place in range(len(ids) - len(label), len(ids)))
    example = Example("x", (text,), ("No", label), 1)
    assert float(score(reader, [example], 1).loglik[0, 1]) == pytest.approx(expected, abs=1e-4)
    assert len(reader.tokens(text)) == len(text)
