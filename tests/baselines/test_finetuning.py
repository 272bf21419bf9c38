from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import small

from esmerge.baselines.finetuning import finetune, finetune_together
from esmerge.core.errors import InputError
from esmerge.core.prompts import Answer, Entity, Example, Prompt
from esmerge.experiment.finetuner import average
from esmerge.model import training
from esmerge.model.attach import detach, init_lora
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.recompute import recomputed_if_large
from esmerge.specialists.specialists import FineTuning, Specialists

LABELS = ("no", "yes")
EXAMPLES = tuple(
    Example(str(i), ("drug : ", Entity("molecule", value), " ? "), LABELS, i % 2)
    for i, value in enumerate(("CCO", "c1ccccc1", "CCN", "CC(=O)O"))
)


@pytest.fixture
def specialists() -> Specialists:
    settings = FineTuning(steps=12, batch=4, rate=0.02, rank=2, alpha=4.0)
    return replace(small.specialists({"mol": "molecule", "gene": "cell"}), finetuning=settings)


def loss_under(specialists: Specialists, states: dict) -> float:
    with torch.no_grad(), specialists.backbone.attached(states) as activate:
        activate("asked" if states else None)
        return float(answer_loss(specialists.prompt_encoder, [example.solved() for example in EXAMPLES]))


def test_finetuning_learns_its_examples_and_leaves_the_backbone_bare(specialists: Specialists, tmp_path: Path) -> None:
    weights = {name: p.clone() for name, p in specialists.backbone.model.named_parameters()}
    state = finetune(specialists, EXAMPLES, "drugs", 0, tmp_path)
    assert {f.scale for f in state.modules.values()} == {2.0} and {f.rank for f in state.modules.values()} == {2}
    assert len(state.modules) == 3 * len(specialists.targets)
    parameters = dict(specialists.backbone.model.named_parameters())
    assert list(parameters) == list(weights) and all(
        torch.equal(parameters[name], value) for name, value in weights.items()
    )
    assert loss_under(specialists, {"asked": state}) < 0.8 * loss_under(specialists, {})


def test_finetuning_goes_on_from_an_adapter(specialists: Specialists, tmp_path: Path) -> None:
    start = average(specialists.adapters)
    dense = [state.modules for state in specialists.adapters.values()]
    for module, factors in start.modules.items():
        expected = sum(modules[module].delta() for modules in dense) / len(dense)
        torch.testing.assert_close(factors.delta(), expected)
    idle = replace(specialists, finetuning=replace(specialists.finetuning, rate=1e-30))
    untouched = finetune(idle, EXAMPLES, "drugs", 0, tmp_path / "idle", start)
    assert all(torch.allclose(untouched.tensors()[name], tensor) for name, tensor in start.tensors().items())
    assert untouched.header == start.header
    state = finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / "on", start)
    assert state.header == start.header
    assert loss_under(specialists, {"asked": state}) < 0.8 * loss_under(specialists, {"asked": start})


def saved_bytes(specialists: Specialists, large: int) -> int:
    """What one training step keeps for its gradient."""
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    model = specialists.backbone.model
    init_lora(model, "trained", 2, 4.0, specialists.targets, 0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sequences = [example.solved() for example in EXAMPLES] * 4
    with recomputed_if_large(model, large), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer_loss(specialists.prompt_encoder, sequences)
    detach(model)
    return sum(size for address, size in sizes.items() if address not in weights)


def test_a_large_backbone_recomputes_its_activations_and_learns_the_same(
    specialists: Specialists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_one = finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / "small")
    model, states = specialists.backbone.model, []

    def recorded(model: torch.nn.Module) -> AbstractContextManager[None]:
        states.append(model)
        return recomputed_if_large(model, 0)

    monkeypatch.setattr("esmerge.baselines.finetuning.recomputed_if_large", recorded)
    large_one = finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / "large")
    assert states == [model] and not model.training and not any(layer.training for layer in model.modules())
    assert not any(getattr(layer, "gradient_checkpointing", False) for layer in model.modules())
    for name, tensor in small_one.tensors().items():
        torch.testing.assert_close(large_one.tensors()[name], tensor)
    assert saved_bytes(specialists, 0) < 0.5 * saved_bytes(specialists, 10**12)


def test_the_seed_and_the_benchmark_decide(specialists: Specialists, tmp_path: Path) -> None:
    first, repeat = (finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / str(i)) for i in range(2))
    other = finetune(specialists, EXAMPLES, "drugs", 1, tmp_path / "other")
    for name, tensor in first.tensors().items():
        assert torch.equal(repeat.tensors()[name], tensor)
    assert any(not torch.equal(other.tensors()[name], tensor) for name, tensor in first.tensors().items())


def test_interrupted_finetuning_goes_on(
    specialists: Specialists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / "whole")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    real, calls = answer_loss, []

    def failing(*args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("esmerge.baselines.finetuning.answer_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / "parts")
    assert not any("lora" in name for name, _ in specialists.backbone.model.named_parameters())
    state = finetune(specialists, EXAMPLES, "drugs", 0, tmp_path / "parts")
    assert len(calls) == specialists.finetuning.steps + 1, "only the step that failed is done again"
    assert all(torch.equal(state.tensors()[name], tensor) for name, tensor in expected.tensors().items())


def test_benchmarks_that_are_learnt_together_take_turns_and_have_as_many_steps_each(
    specialists: Specialists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = {"drugs": EXAMPLES[:1], "cells": EXAMPLES[1:2], "pairs": EXAMPLES[2:]}
    batches: list[Sequence[Prompt]] = []

    def read(prompt_encoder: PromptEncoder, sequences: Sequence[Prompt]) -> torch.Tensor:
        batches.append(sequences)
        return answer_loss(prompt_encoder, sequences)

    monkeypatch.setattr("esmerge.baselines.finetuning.answer_loss", read)
    first = finetune_together(specialists, sides, 0, tmp_path / "first")
    settings = specialists.finetuning
    assert len(batches) == 3 * settings.steps and {len(batch) for batch in batches} == {settings.batch}
    counts = Counter(sequence for batch in batches for sequence in batch)
    prompts = [example.solved() for example in EXAMPLES]
    share = settings.steps * settings.batch
    assert counts[prompts[0]] == counts[prompts[1]] == counts[prompts[2]] + counts[prompts[3]] == share
    assert min(counts[prompts[2]], counts[prompts[3]]) > share / 4, "drawn alike"
    other = finetune_together(specialists, sides, 1, tmp_path / "other")
    assert any(not torch.equal(other.tensors()[name], tensor) for name, tensor in first.tensors().items())
    assert loss_under(specialists, {"asked": first}) < 0.8 * loss_under(specialists, {})


def test_the_loss_is_the_cross_entropy_of_the_answers_tokens_by_hand(specialists: Specialists) -> None:
    segments = ("drug : ", Entity("molecule", "CCO"), " ? ", Answer("not at all"), " ; cell ? ", Answer("yes"))
    batch = specialists.prompt_encoder.batch([segments])
    with torch.no_grad():
        logprobs = specialists.backbone.model(inputs_embeds=batch.embeds).logits[0].log_softmax(-1)
        loss = float(answer_loss(specialists.prompt_encoder, [segments]))
    (item,) = specialists.prompt_encoder.encode([segments])
    tokens = specialists.backbone.tokenizer.convert_ids_to_tokens(item.ids)
    places = [tokens.index("not"), tokens.index("at"), tokens.index("all"), tokens.index("yes")]
    expected = -sum(float(logprobs[place - 1, item.ids[place]]) for place in places) / 4
    assert loss == pytest.approx(expected, rel=1e-5)


def test_weights_of_the_loss_count_tokens(specialists: Specialists) -> None:
    short, long = (("drug ? ", Answer("yes")), ("cell ? ", Answer("not at all")))
    with torch.no_grad():
        losses = [float(answer_loss(specialists.prompt_encoder, [segments])) for segments in (short, long)]
        joint_loss = float(answer_loss(specialists.prompt_encoder, [short, long], weights=[1.0, 0.5]))
    assert joint_loss == pytest.approx((1 * losses[0] + 0.5 * 3 * losses[1]) / (1 + 0.5 * 3), rel=1e-5)


def test_noise_is_that_of_its_seed(specialists: Specialists) -> None:
    segments = [("drug ? ", Answer("yes"))]
    with torch.no_grad():
        plain, first, repeat, other = (
            float(answer_loss(specialists.prompt_encoder, segments, noise=noise, seed=seed))
            for noise, seed in ((0.0, 1), (0.5, 1), (0.5, 1), (0.5, 2))
        )
    assert first == repeat and len({plain, first, other}) == 3


def test_finetuning_on_nothing_is_refused(specialists: Specialists, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="drugs has no training examples"):
        finetune(specialists, (), "drugs", 0, tmp_path)
    with pytest.raises(InputError, match="no benchmark with training examples"):
        finetune_together(specialists, {}, 0, tmp_path)
