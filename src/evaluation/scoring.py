"""Label log-likelihoods: how probable each candidate answer is after the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from src.errors import InputError
from src.specialists.pieces import Example
from src.specialists.render import Rendered, Renderer

WINDOW = 8  # batches that are rendered and sorted by length together


@dataclass(frozen=True)
class Scores:
    """What a model thinks of n examples with C labels each.

    Attributes:
        loglik: (n, C) sum of the log-probabilities of each label's tokens, float64.
        greedy: n texts: the most probable token after the prompt, over the whole vocabulary.
    """

    loglik: Tensor
    greedy: list[str]


@dataclass(frozen=True)
class _Unit:
    """One forward pass: a prompt and what some labels share, all of their tokens but the last."""

    row: int
    prompt: Rendered
    shared: tuple[int, ...]
    last: dict[int, int]  # column of the label -> its last token

    @property
    def length(self) -> int:
        return len(self.prompt.ids) + len(self.shared)

    def rendered(self) -> Rendered:
        return replace(self.prompt, ids=[*self.prompt.ids, *self.shared], targets=[0] * self.length)


@torch.no_grad()
def score(
    renderer: Renderer, examples: Sequence[Example], batch_size: int, on_progress: Callable[[int], object] | None = None
) -> Scores:
    """Score every label of every example under the adapter that is active now.

    Sequences are batched by length and padded on the left. Labels that differ in their last token only
    (one-token labels above all) share one pass.

    Args:
        on_progress: told how many examples were finished since the last call.

    Raises:
        InputError: an entity of an example is invalid, or a label has no tokens or another's.
    """
    loglik = [[0.0] * len(example.labels) for example in examples]
    greedy = [""] * len(examples)
    for start in range(0, len(examples), WINDOW * batch_size):
        window = range(start, min(start + WINDOW * batch_size, len(examples)))
        for units in _batches(renderer, examples, window, batch_size):
            _forward(renderer, units, loglik, greedy)
        if on_progress:
            on_progress(len(window))
    return Scores(torch.tensor(loglik, dtype=torch.float64), greedy)


def _batches(renderer: Renderer, examples: Sequence[Example], window: range, batch_size: int) -> Iterator[list[_Unit]]:
    rendered = renderer.render([examples[row].prompt for row in window])
    units = [
        unit
        for row, prompt in zip(window, rendered, strict=True)
        for unit in _units(renderer, examples[row], row, prompt)
    ]
    units.sort(key=lambda unit: unit.length)
    for start in range(0, len(units), batch_size):
        yield units[start : start + batch_size]


def _units(renderer: Renderer, example: Example, row: int, prompt: Rendered) -> list[_Unit]:
    grouped: dict[tuple[int, ...], dict[int, int]] = {}
    for column, label in enumerate(example.labels):
        if not renderer.tokens(label):
            raise InputError(f"label {label!r} of example {example.id} has no tokens: it cannot be scored")
        *shared, last = renderer.tokens(label)
        if last in grouped.get(tuple(shared), {}).values():
            raise InputError(f"labels {example.labels} of example {example.id}: two have the same tokens, so they tie")
        grouped.setdefault(tuple(shared), {})[column] = last
    return [_Unit(row, prompt, shared, last) for shared, last in grouped.items()]


def _forward(renderer: Renderer, units: list[_Unit], loglik: list[list[float]], greedy: list[str]) -> None:
    batch = renderer.collate([unit.rendered() for unit in units], side="left")
    kept = 1 + max(len(unit.shared) for unit in units)
    logits = renderer.backbone.model(
        inputs_embeds=batch.embeds,
        attention_mask=batch.mask,
        position_ids=batch.positions(),
        logits_to_keep=kept,
        use_cache=False,
    ).logits
    logprobs = logits.float().log_softmax(dim=-1).cpu()
    for unit, row in zip(units, logprobs, strict=True):
        tail = row[kept - 1 - len(unit.shared) :]
        shared = sum(float(tail[place, token]) for place, token in enumerate(unit.shared))
        for column, token in unit.last.items():
            loglik[unit.row][column] = shared + float(tail[-1, token])
        greedy[unit.row] = str(renderer.backbone.tokenizer.decode([int(tail[0].argmax())])).strip()
