"""Label log-likelihoods: how probable each candidate answer is after the prompt.

A prompt is read once for all of its labels: in one pass with the *stem*, the tokens that all labels begin with, which
also gives the probability of each label's next token. Labels that go on apart from there (*branches*) are read on from
the keys and values of that pass. One-token labels have no branches, so one position answers for all. What all prompts
begin with is read once for all of them (``esmerge.model.prefix``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from esmerge.core.devices import Fetching, moved
from esmerge.core.errors import InputError
from esmerge.core.prompts import Example
from esmerge.model.batching import Question, batches
from esmerge.model.halving import Halving
from esmerge.model.overflow import overflow_error
from esmerge.model.prefix import SHORTEST, Prefix, rows_of, shared_prefix
from esmerge.model.prompt_encoder import Batch, EncodedPrompt, PromptEncoder
from esmerge.storage.journal import Journal

MODES = ("loglik", "loglik_normalised", "generate")  # how an answer is read off a model; the first is the default
NO_JOURNAL = Journal()

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """What a model thinks of n examples with C labels each.

    Attributes:
        loglik: (n, C) sum of the log-probabilities of each label's tokens, float64.
        greedy: n texts: the most probable token after the prompt, over the whole vocabulary.
        lengths: (n, C) number of tokens of each label, int64.
    """

    loglik: Tensor
    greedy: list[str]
    lengths: Tensor

    def per_token(self) -> Scores:
        """The same with each label's mean log-probability per token, so that long labels are not at a disadvantage."""
        return replace(self, loglik=self.loglik / self.lengths)


@dataclass(frozen=True)
class _Labels:
    """The labels of an example as tokens: a common stem, and what is read after it."""

    tokens: list[Tokens]
    stem: Tokens

    def branch(self, column: int) -> Tokens:
        """What must be read after the stem before a label's last token is predicted."""
        return self.tokens[column][len(self.stem) : -1]

    def branches(self) -> list[Tokens]:
        """Each branch once."""
        return [branch for branch in dict.fromkeys(map(self.branch, range(len(self.tokens)))) if branch]


@torch.no_grad()
def score(
    prompt_encoder: PromptEncoder,
    examples: Sequence[Example],
    batch_size: int,
    on_progress: Callable[[int], object] | None = None,
    *,
    branches_at_once: int = 4,
    shortest_prefix: int = SHORTEST,
    journal: Journal = NO_JOURNAL,
) -> Scores:
    """Score every label of every example under the adapter that is active now.

    Prompts are batched by length and padded on the left; results are in the order of ``examples``.

    Args:
        on_progress: told how many examples were finished since the last call.
        branches_at_once: branches that are read together, for each prompt of a batch; bounds the copies of keys and
            values.
        shortest_prefix: positions of a start of all prompts from which it is read once for all.
        journal: keeps each batch's answers as they come; what it holds already is not read again.

    Raises:
        InputError: an entity of an example is invalid, or a label has no tokens or another's.
        NumberError: a log-likelihood is NaN or infinite; the message says of which example, and where it begins.
    """
    labels_of: dict[tuple[str, ...], _Labels] = {}
    for example in examples:
        if example.labels not in labels_of:
            labels_of[example.labels] = _labels(prompt_encoder, example)
    prefix = shared_prefix(prompt_encoder, [example.prompt for example in examples], shortest_prefix)
    reading = _Reading(prompt_encoder, prefix, labels_of, branches_at_once, journal)
    halving = Halving("prompts", "compute.batch_size")
    for questions in batches(prompt_encoder, examples, batch_size, reading.stem_length, on_progress):
        halving.run(questions, reading.read)
    return reading.scores(examples)


class _Reading:
    """Reads batches of questions and keeps what they are answered; see ``score``.

    Args:
        prefix: what all prompts begin with.
        labels_of: labels as texts -> as tokens.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        prefix: Prefix,
        labels_of: Mapping[tuple[str, ...], _Labels],
        branches_at_once: int,
        journal: Journal,
    ) -> None:
        self._prompt_encoder, self._prefix, self._labels_of = prompt_encoder, prefix, labels_of
        self._branches_at_once, self._journal = branches_at_once, journal
        self._on_its_way = deque[tuple[Sequence[Question], Fetching]]()
        self._answers: dict[int, tuple[str, list[float]]] = {}  # row -> greedy text, log-likelihoods

    def stem_length(self, example: Example) -> int:
        """Tokens that all of an example's labels begin with."""
        return len(self._labels_of[example.labels].stem)

    def read(self, questions: Sequence[Question]) -> None:
        """One batch, from the journal if it holds it."""
        stored = self._journal.stored([question.row for question in questions])
        if stored is not None:
            self._keep(questions, *stored)
            return
        labels = [self._labels_of[question.example.labels] for question in questions]
        answers = _read(self._prompt_encoder, self._prefix, questions, labels, self._branches_at_once)
        self._on_its_way.append((questions, Fetching(*answers)))
        if len(self._on_its_way) > 1:  # a GPU is at work on this batch while the host looks at the one before
            self._finish(*self._on_its_way.popleft())

    def scores(self, examples: Sequence[Example]) -> Scores:
        """What was read, in the order of the examples; call it after the last batch."""
        while self._on_its_way:
            self._finish(*self._on_its_way.popleft())
        greedy, loglik = (
            zip(*(self._answers[row] for row in range(len(examples))), strict=True) if examples else ((), ())
        )
        lengths = [[len(tokens) for tokens in self._labels_of[example.labels].tokens] for example in examples]
        return Scores(torch.tensor(loglik, dtype=torch.float64), list(greedy), torch.tensor(lengths))

    def _finish(self, questions: Sequence[Question], fetching: Fetching) -> None:
        tokens, logliks = (tensor.tolist() for tensor in fetching.wait())
        for question, values in zip(questions, logliks, strict=True):
            _check_numbers(self._prompt_encoder, question, values)
        self._journal.append([question.row for question in questions], (tokens, logliks))
        self._keep(questions, tokens, logliks)

    def _keep(self, questions: Sequence[Question], tokens: list[int], logliks: list[list[float]]) -> None:
        for question, token, values in zip(questions, tokens, logliks, strict=True):
            text = str(self._prompt_encoder.backbone.tokenizer.decode([token])).strip()
            self._answers[question.row] = text, values[: len(question.example.labels)]


def _check_numbers(prompt_encoder: PromptEncoder, question: Question, values: Sequence[float]) -> None:
    for label, value in zip(question.example.labels, values, strict=False):  # rows are as wide as the widest
        if not math.isfinite(value):
            subject = f"example {question.example.id}: the log-likelihood of label {label!r} is {value}"
            raise overflow_error(prompt_encoder, question.prompt, subject)


def _labels(prompt_encoder: PromptEncoder, example: Example) -> _Labels:
    tokens = [tuple(prompt_encoder.tokens(label)) for label in example.labels]
    if () in tokens:
        empty = example.labels[tokens.index(())]
        raise InputError(f"label {empty!r} of example {example.id} has no tokens: it cannot be scored")
    if len(set(tokens)) < len(tokens):
        raise InputError(f"labels {example.labels} of example {example.id}: two have the same tokens, so they tie")
    return _Labels(tokens, _common_start([label[:-1] for label in tokens]))


def _common_start(sequences: Sequence[Tokens]) -> Tokens:
    least, most = min(sequences), max(sequences)  # what these two share, all in between share
    matches = (a == b for a, b in zip(least, most, strict=False))
    return least[: next((index for index, equal in enumerate(matches) if not equal), min(len(least), len(most)))]


def _read(
    prompt_encoder: PromptEncoder,
    prefix: Prefix,
    questions: Sequence[Question],
    labels: Sequence[_Labels],
    branches_at_once: int,
) -> tuple[Tensor, Tensor]:
    """Id of the most probable token after each prompt, (B,), and the log-likelihoods of its labels, (B, C)."""
    sequences = [_with_stem(prefix.rest(q.prompt), entry.stem) for q, entry in zip(questions, labels, strict=True)]
    batch = prefix.before(prompt_encoder.collate(sequences, side="left"))
    read_positions = 1 + max(len(entry.stem) for entry in labels)
    branching = any(entry.branches() for entry in labels)
    cache = prefix.cache(len(sequences), batch.mask.device)
    if branching and cache is None:
        cache = DynamicCache(config=prompt_encoder.backbone.model.config)
    logits = prompt_encoder.backbone.model(
        inputs_embeds=batch.embeds,
        attention_mask=batch.mask,
        position_ids=batch.positions()[:, prefix.length :],
        logits_to_keep=read_positions,
        past_key_values=cache,
        use_cache=cache is not None,
    ).logits
    logprobs, picks = _logprobs(logits), _Picks(max(len(entry.tokens) for entry in labels))
    ends = [read_positions - 1 - len(entry.stem) for entry in labels]  # of each prompt, before its stem
    for row, (entry, end) in enumerate(zip(labels, ends, strict=True)):
        for column, tokens in enumerate(entry.tokens):
            picks.add(row, column, row, end, tokens[: len(entry.stem) + 1])
    rows, last = torch.arange(len(labels)), torch.tensor(ends)
    greedy = logprobs[moved(rows, logprobs.device), moved(last, logprobs.device)].argmax(dim=-1)
    loglik = picks.sums(logprobs, len(labels))
    if branching and cache is not None:
        loglik = loglik + _read_on(prompt_encoder, batch, cache, labels, branches_at_once * len(labels))
    return greedy, loglik


class _Picks:
    """Which log-probabilities add up to which label's log-likelihood.

    Args:
        columns: C, the most labels that a question has.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._picks: list[tuple[int, int, int, int]] = []  # question and label, row, position, token

    def add(self, question: int, label: int, row: int, start: int, tokens: Tokens) -> None:
        """Of ``row``, the log-probability of each token, from position ``start`` on, counts for a question's label."""
        slot = question * self._columns + label
        self._picks += [(slot, row, start + position, token) for position, token in enumerate(tokens)]

    def sums(self, logprobs: Tensor, questions: int) -> Tensor:
        """Log-likelihoods, (questions, C), float64, from log-probabilities, (rows, positions, vocabulary)."""
        index = torch.tensor(self._picks, dtype=torch.long).reshape(-1, 4).T.contiguous()
        slots, rows, positions, tokens = moved(index, logprobs.device)
        total = torch.zeros(questions * self._columns, dtype=torch.float64, device=logprobs.device)
        return total.index_add_(0, slots, logprobs[rows, positions, tokens].double()).view(questions, -1)


def _with_stem(prompt: EncodedPrompt, stem: Tokens) -> EncodedPrompt:
    ids = [*prompt.ids, *stem]
    return replace(prompt, ids=ids, targets=[0] * len(ids))


def _read_on(
    prompt_encoder: PromptEncoder, batch: Batch, cache: Cache, labels: Sequence[_Labels], at_once: int
) -> Tensor:
    """Log-likelihoods of what follows the stem and one token, (B, C), ``at_once`` branches in a pass."""
    columns = max(len(entry.tokens) for entry in labels)
    total = torch.zeros(len(labels), columns, dtype=torch.float64, device=batch.mask.device)
    pairs = [(row, branch) for row, entry in enumerate(labels) for branch in entry.branches()]
    for chunk in _chunks(sorted(pairs, key=lambda pair: len(pair[1])), at_once):
        logprobs, picks = _branch_logprobs(prompt_encoder, batch, cache, chunk), _Picks(columns)
        for index, (row, branch) in enumerate(chunk):
            for column, tokens in enumerate(labels[row].tokens):
                if labels[row].branch(column) == branch:
                    picks.add(row, column, index, 0, tokens[len(labels[row].stem) + 1 :])
        total += picks.sums(logprobs, len(labels))
    return total


def _branch_logprobs(
    prompt_encoder: PromptEncoder, batch: Batch, cache: Cache, pairs: Sequence[tuple[int, Tokens]]
) -> Tensor:
    """Log-probabilities after each token of each branch, (branches, tokens, vocabulary); padding is on the right."""
    device, width = batch.mask.device, max(len(branch) for _, branch in pairs)
    rows = moved(torch.tensor([row for row, _ in pairs]), device)
    padding = prompt_encoder.backbone.padding_id
    ids = moved(torch.tensor([[*branch, *[padding] * (width - len(branch))] for _, branch in pairs]), device)
    mask = batch.mask[rows]
    logits = prompt_encoder.backbone.model(
        inputs_embeds=prompt_encoder.backbone.embed(ids),
        attention_mask=torch.cat([mask, torch.ones_like(ids)], dim=1),  # no token sees the padding after it
        position_ids=mask.sum(dim=1, keepdim=True) + torch.arange(width, device=device),
        past_key_values=rows_of(cache, rows),
        use_cache=True,
    ).logits
    return _logprobs(logits)


def _logprobs(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(dim=-1)


def _chunks(items: Sequence[tuple[int, Tokens]], size: int) -> Iterator[Sequence[tuple[int, Tokens]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
