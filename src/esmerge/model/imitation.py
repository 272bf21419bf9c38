"""A loss that teaches what is perceived to be represented as words are.

The bare backbone reads a question in words; with an adapter it reads the same question with an entity in place of the
words. Where an answer is predicted, and where the name stands before it, the hidden states of every layer are drawn
together. Without it two adapters that are each right may represent their entities in ways that the other does not
read, and a merge of them answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from esmerge.core.errors import InputError
from esmerge.core.prompts import Prompt
from esmerge.model.attach import adapters_at, without_adapters
from esmerge.model.prompt_encoder import IGNORED, Batch, EncodedPrompt, PromptEncoder

SKIPPED = 0.1  # share of the layers, from the first, whose states may differ: there words are put together
RAGGED = 2.5  # longest sequence of those that are read together, in lengths of the shortest
RAGGED_ON_CPU = 1.25  # where padding costs as much as words, and one more group next to nothing
SMALLEST = 1e-6  # mean square of a state, against division by zero


@dataclass(frozen=True)
class Taught:
    """A training sequence, and how it is taught.

    Attributes:
        sequence: with an answer after each question.
        imitates: the same questions and answers as the bare backbone reads them: in words, where what is perceived has
            a name; None where it has none. The sequence itself: the adapter has to change nothing.
        answered: whether the answers are taught.
        in_place: whether the adapter acts on entities alone, the words being read by the bare backbone.
        alternatives: for each answer another one, of a single token as it, and its share of the loss: an answer that
            is not certain; None where all are.
    """

    sequence: Prompt
    imitates: Prompt | None = None
    answered: bool = True
    in_place: bool = False
    alternatives: tuple[tuple[str, float], ...] | None = None


def answer_and_imitation_loss(
    prompt_encoder: PromptEncoder, taught: Sequence[Taught], weight: float, reach: int = 0
) -> Tensor:
    """Mean cross-entropy on the answers' tokens, and ``weight`` times the distance to what is imitated.

    Args:
        reach: so many positions before each answer are compared too. There a name stands, or what is perceived in its
            place: whatever reads one will read the other.

    Raises:
        InputError: an answer that has an alternative, or the alternative, is not a single token.
    """
    model = prompt_encoder.backbone.model
    encoded = prompt_encoder.encode([item.sequence for item in taught])
    places = [answer_places(item) for item in encoded]
    imitating = [row for row, item in enumerate(taught) if item.imitates is not None] if weight else []
    imitated = prompt_encoder.encode([item.imitates for item in taught if item.imitates is not None and weight])
    imitated_places = []
    for row, words in zip(imitating, imitated, strict=True):
        places[row], places_of_words = places_before_answers(encoded[row], words, reach)
        imitated_places.append(places_of_words)
    target = None
    if imitating:
        with torch.no_grad(), without_adapters(model):
            target = read_states(prompt_encoder, imitated, imitated_places).states
    own = read_states(prompt_encoder, encoded, places, [item.in_place for item in taught])
    answered = _of_rows(own.rows, [item.answered for item in taught]) & (own.targets != IGNORED)
    logits = model.get_output_embeddings()(own.states[-1][answered]).float()
    loss = functional.cross_entropy(logits, own.targets[answered], reduction="none")
    if any(item.alternatives is not None for item in taught):
        alternatives, shares = _alternatives(prompt_encoder, taught, own.rows[answered])
        loss = torch.lerp(loss, functional.cross_entropy(logits, alternatives, reduction="none"), shares)
    loss = loss.mean()
    if target is None:
        return loss
    compared = _of_rows(own.rows, [item.imitates is not None for item in taught])
    return loss + weight * relative_distance(own.states[:, compared], target)


def _of_rows(rows: Tensor, selected: Sequence[bool]) -> Tensor:
    """Which positions are in the rows that are selected."""
    return torch.tensor(selected, device=rows.device)[rows]


def _alternatives(prompt_encoder: PromptEncoder, taught: Sequence[Taught], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Another token for every position of an answer, (positions,), and its share of the loss there.

    Args:
        rows: of the positions.
    """
    counts = torch.bincount(rows, minlength=len(taught)).tolist()
    tokens: list[int] = []
    shares: list[float] = []
    for item, count in zip(taught, counts, strict=True):
        alternatives = item.alternatives or (("", 0.0),) * count
        if len(alternatives) != count:
            raise InputError(
                f"{len(alternatives)} answers are {count} tokens: one that is not certain must be a single one"
            )
        for text, share in alternatives:
            ids = prompt_encoder.tokens(text) if text else [0]
            if len(ids) != 1:
                raise InputError(
                    f"the answer {text!r} is {len(ids)} tokens: one that is not certain must be a single one"
                )
            tokens.append(ids[0])
            shares.append(share)
    device = rows.device
    return torch.tensor(tokens, device=device), torch.tensor(shares, device=device)


def answer_places(encoded: EncodedPrompt) -> list[int]:
    """Positions at which an answer's token is predicted."""
    return [place for place, target in enumerate(encoded.targets) if target != IGNORED]


def places_before_answers(perceived: EncodedPrompt, words: EncodedPrompt, reach: int) -> tuple[list[int], list[int]]:
    """Positions of two sequences with the same answers that are compared, as many in both and in the same order.

    They are those at which an answer's token is predicted and up to ``reach`` before each answer; fewer where in
    either sequence fewer stand between an answer and the one before it.
    """
    compared: tuple[list[int], list[int]] = ([], [])
    question_starts = [0, 0]
    for runs in zip(*(_runs(answer_places(item)) for item in (perceived, words)), strict=True):
        before = min(reach, *(run.start - start for run, start in zip(runs, question_starts, strict=True)))
        for places, run in zip(compared, runs, strict=True):
            places += range(run.start - before, run.stop)
        question_starts = [run.stop + 1 for run in runs]
    return compared


def _runs(places: Sequence[int]) -> list[range]:
    """Ranges of positions that follow each other."""
    runs: list[range] = []
    for place in places:
        if runs and runs[-1].stop == place:
            runs[-1] = range(runs[-1].start, place + 1)
        else:
            runs.append(range(place, place + 1))
    return runs


@dataclass(frozen=True)
class States:
    """What a model makes of some positions, in the order of the sequences.

    Attributes:
        states: hidden states after every layer, (layers, positions, hidden).
        rows: sequence of each position, (positions,).
        targets: token that is predicted there, (positions,); ``IGNORED`` where none is.
    """

    states: Tensor
    rows: Tensor
    targets: Tensor


def read_states(
    prompt_encoder: PromptEncoder,
    encoded: Sequence[EncodedPrompt],
    places: Sequence[Sequence[int]],
    in_place: Sequence[bool] | None = None,
) -> States:
    """What a model makes of sequences at some positions of each.

    Sequences of like length are read together: one record beside many short questions would make most of a batch
    padding.

    Args:
        places: positions of each sequence, ascending.
        in_place: for each sequence, whether adapters act on its entities alone; None: on everything.
    """
    model = prompt_encoder.backbone.model
    parts = []
    ragged = RAGGED_ON_CPU if model.device.type == "cpu" else RAGGED
    for group in groups_by_length([len(item.ids) for item in encoded], ragged):
        batch = prompt_encoder.collate([encoded[row] for row in group])
        rows = torch.tensor([row for row, index in enumerate(group) for _ in places[index]], device=batch.mask.device)
        columns = torch.tensor([place for index in group for place in places[index]], device=batch.mask.device)
        group_in_place = [in_place is not None and in_place[row] for row in group]
        with adapters_at(model, _acting(batch, group_in_place)) if any(group_in_place) else nullcontext():
            hidden = model.get_decoder()(
                inputs_embeds=batch.embeds, attention_mask=batch.mask, use_cache=False, output_hidden_states=True
            ).hidden_states
        states = torch.stack([state[rows, columns] for state in hidden[1:]])
        parts.append((states, torch.tensor(group, device=rows.device)[rows], batch.targets[rows, columns]))
    states, rows, targets = (
        torch.cat(part, dim=dim) for part, dim in zip(zip(*parts, strict=True), (1, 0, 0), strict=True)
    )
    order = rows.argsort(stable=True)
    return States(states[:, order], rows[order], targets[order])


def groups_by_length(lengths: Sequence[int], ragged: float) -> list[list[int]]:
    """Indices in groups, in each of which the longest is at most ``ragged`` times as long as the shortest."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if groups and lengths[index] <= ragged * lengths[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _acting(batch: Batch, in_place: Sequence[bool]) -> Tensor:
    """Where adapters act, (B, T): everywhere, or on entities."""
    where = torch.ones_like(batch.mask)
    for row, (spans, entities_only) in enumerate(zip(batch.spans, in_place, strict=True)):
        if entities_only:
            where[row] = 0
            for span in spans:
                where[row, span.start : span.stop] = 1
    return where


def relative_distance(states: Tensor, target: Tensor) -> Tensor:
    """Mean over layers and positions of ``|state - target|² / |target|²``; the first layers are left out.

    Args:
        states, target: (layers, positions, hidden).
    """
    first = int(SKIPPED * len(states))
    states, target = states[first:].float(), target[first:].float()
    scale = target.square().mean(dim=-1).clamp(min=SMALLEST)
    return ((states - target).square().mean(dim=-1) / scale).mean()
