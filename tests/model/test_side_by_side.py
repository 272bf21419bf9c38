"""Parts of a batch in threads of their own: the same states and gradients as one after the other."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import small
from torch import Tensor, nn

from esmerge.core.prompts import Answer, Entity, Prompt
from esmerge.model import imitation
from esmerge.model.attach import detach, init_lora
from esmerge.model.imitation import Taught, answer_and_imitation_loss, answer_places, in_shares, read_states
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.side_by_side import MOST, run_side_by_side, threads_for_parts

CPU = torch.device("cpu")


class ProjectedEncoder:
    """Soft tokens behind a projector that is trained."""

    modality = "molecule"

    def __init__(self, hidden: int) -> None:
        self.table, self.projector = small.TableEncoder("molecule", hidden), nn.Linear(hidden, hidden)

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        return [self.projector(tokens) for tokens in self.table.encode(values)]


def taught(count: int) -> list[Taught]:
    """Sequences of several lengths; some imitate words, and of some the adapter acts on the entity alone."""
    items = []
    for number in range(count):
        cell = ("cell : " + "ALB TTR ; " * (1 + number % 5), Answer("no"))
        seen: Prompt = ("drug : ", Entity("molecule", "C" * (1 + number % 4)), " ; ", Answer("yes"), *cell)
        named: Prompt = ("drug : all ; ", Answer("yes"), *cell)
        items.append(Taught(seen, named if number % 3 else None, in_place=number % 2 == 0))
    return items


def loss_and_gradients(threads: int, monkeypatch: pytest.MonkeyPatch) -> tuple[float, list[Tensor]]:
    torch.manual_seed(0)
    body = small.backbone(layers=4)
    encoder = ProjectedEncoder(16)
    adapter = init_lora(body.model, "trained", 2, 8.0, small.TARGETS, seed=1)
    with torch.no_grad():
        for parameter in adapter:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    monkeypatch.setattr(imitation, "threads_for_parts", lambda device: threads)
    loss = answer_and_imitation_loss(PromptEncoder(body, {"molecule": encoder}), taught(12), weight=2.0, reach=2)
    loss.backward()
    gradients = [p.grad for p in (*adapter, *encoder.projector.parameters()) if p.grad is not None]
    detach(body.model)
    return float(loss.detach()), gradients


@pytest.mark.parametrize("threads", [2, 3])
def test_loss_and_gradients_are_those_of_one_part_after_the_other(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, gradients = loss_and_gradients(1, monkeypatch)
    side_by_side, others = loss_and_gradients(threads, monkeypatch)
    assert side_by_side == pytest.approx(loss, rel=1e-5)
    assert len(gradients) == len(others) == 2 * 4 * len(small.TARGETS) + 2
    for gradient, other in zip(gradients, others, strict=True):
        assert gradient.abs().max() > 0 and torch.allclose(gradient, other, rtol=1e-3, atol=1e-5)


def test_gradients_are_the_same_bit_by_bit_however_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = loss_and_gradients(3, monkeypatch)
    for _ in range(5):
        _, again = loss_and_gradients(3, monkeypatch)
        assert all(torch.equal(gradient, other) for gradient, other in zip(first, again, strict=True))


def test_a_parameter_that_one_part_reads_gets_its_gradient_and_an_unread_one_none() -> None:
    weight, unread = torch.tensor(3.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    value, constant = torch.tensor(2.0, requires_grad=True), torch.tensor(5.0)
    parts = [lambda number: weight * number, lambda number: number * 4]
    first, second = run_side_by_side(parts, [value, constant], [weight, unread], threads=2)
    (first + 7 * second).backward()
    assert (float(first.detach()), float(second.detach())) == (6.0, 20.0)
    assert (weight.grad, value.grad, unread.grad) == (torch.tensor(2.0), torch.tensor(3.0), None)


def test_the_order_of_sequences_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = PromptEncoder(small.backbone(), {"molecule": small.TableEncoder("molecule", 16)})
    encoded = ours.encode([item.sequence for item in taught(9)])
    places = [answer_places(item) for item in encoded]
    states = []
    for threads in (1, 3):
        monkeypatch.setattr(imitation, "threads_for_parts", lambda device, threads=threads: threads)
        with torch.no_grad():
            states.append(read_states(ours, encoded, places))
    assert not states[1].states.requires_grad and torch.equal(states[0].rows, states[1].rows)
    assert torch.equal(states[0].targets, states[1].targets)
    assert torch.allclose(states[0].states, states[1].states, atol=1e-5)


@pytest.mark.parametrize(("threads_of_torch", "share"), [(1, 1), (2, 1), (5, 2)])
def test_parts_run_at_the_same_time_with_their_share_of_the_threads_of_torch(threads_of_torch: int, share: int) -> None:
    meeting = threading.Barrier(2, timeout=30)

    def part(value: Tensor) -> Tensor:
        meeting.wait()
        return value * torch.get_num_threads()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads_of_torch)
        outputs = run_side_by_side([part, part], [torch.tensor(1.0), torch.tensor(2.0)], [], threads=2)
        assert torch.get_num_threads() == threads_of_torch
    finally:
        torch.set_num_threads(before)
    assert [float(output) for output in outputs] == [share, 2.0 * share]


@pytest.mark.parametrize("needs_gradients", [True, False])
def test_what_fails_in_a_part_is_raised(needs_gradients: bool) -> None:
    def part(value: Tensor) -> Tensor:
        raise ValueError("no such token")

    with torch.set_grad_enabled(needs_gradients), pytest.raises(ValueError, match="no such token"):
        run_side_by_side([part, part], [torch.zeros(1)] * 2, [], threads=2)


def test_there_are_as_many_parts_as_threads_of_torch_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert threads_for_parts(CPU) == 3 and threads_for_parts(torch.device("cuda")) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert threads_for_parts(CPU) == MOST


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=40),
    threads=st.integers(1, 8),
)
def test_shares_hold_every_sequence_once_and_none_is_large_without_need(lengths: list[int], threads: int) -> None:
    groups = imitation.groups_by_length(lengths, 1.25)
    shares = in_shares(groups, lengths, threads)
    assert [index for share in shares for index in share] == [index for group in groups for index in group]
    assert threads > 1 or shares == groups
    most = sum(lengths) / (imitation.SHARES * threads)
    for share in shares:
        assert threads == 1 or len(share) == 1 or sum(lengths[i] for i in share[:-1]) <= 1.25 * most
