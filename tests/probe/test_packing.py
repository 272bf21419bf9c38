"""Batches that are read together: which, and that nothing but rounding depends on it."""

from __future__ import annotations

import pytest
import torch
from tests import small

from esmerge.core.errors import AdapterError
from esmerge.core.prompts import Prompt
from esmerge.probe.execution import Execution
from esmerge.probe.packing import PackedBatch, packed_batches
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.responses import collect
from esmerge.probe.variants.mixed import mixed

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}


def words(*lengths: int) -> list[Prompt]:
    """Prompts of so many words; the tokenizer has a start token."""
    return [("drug " * (length - 1),) for length in lengths]


def read(prompts: list[Prompt], batch_size: int, positions: int = 1024) -> list[PackedBatch]:
    return list(packed_batches(small.specialists(THREE).prompt_encoder, prompts, batch_size, positions))


def test_batches_share_a_pass_up_to_a_number_of_positions() -> None:
    passes = read(words(*[4] * 7), 2, positions=24)
    assert [packed.sizes for packed in passes] == [(2, 2, 2), (1,)]
    assert [packed.ends() for packed in passes] == [[8, 16, 24], [4]]
    assert [tuple(packed.batch.mask.shape) for packed in passes] == [(6, 4), (1, 4)]


def test_a_batch_that_is_longer_than_a_pass_has_one_to_itself() -> None:
    assert [packed.sizes for packed in read(words(9, 9, 9), 2, positions=5)] == [(2,), (1,)]


def test_short_prompts_are_not_padded_to_the_length_of_long_ones() -> None:
    passes = read(words(3, 3, 30, 30, 28, 3), 2)
    assert [packed.sizes for packed in passes] == [(2,), (2, 2)]
    assert [packed.batch.mask.shape[1] for packed in passes] == [3, 30]


@pytest.mark.parametrize("space", ["factors", "delta"])
@pytest.mark.parametrize("score", ["absolute", "squared"])
def test_signals_are_those_of_one_batch_at_a_time(space: str, score: str) -> None:
    specialists = small.specialists(THREE)
    prompts = mixed(ProbeSettings(samples=7), specialists, seed=3)
    packed = collect(specialists, prompts, 2, space, score)
    separate = collect(specialists, prompts, 2, space, score, Execution(positions=0))
    for name in specialists.adapters:
        for key, value in separate.scores[name].items():
            assert torch.allclose(packed.scores[name][key], value, rtol=1e-4, atol=float(value.max()) * 1e-5)
        for modality in specialists.modalities:
            ours, theirs = (signals.responses[name][modality][:] for signals in (packed, separate))
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_weights_that_are_used_otherwise_are_refused_by_name() -> None:
    specialists = small.specialists(THREE)
    layer = specialists.backbone.layers()[0]
    plain = type(layer).forward

    def forward(hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        output = plain(layer, hidden, *args, **kwargs)
        return output + layer.mlp.down_proj.weight.sum()

    layer.forward = forward
    with pytest.raises(AdapterError, match=r"layers\.0\.mlp\.down_proj.* is used otherwise than by a linear map"):
        collect(specialists, mixed(ProbeSettings(samples=2), specialists, seed=0), 2, "delta")
    assert all(parameter.grad is None for parameter in specialists.backbone.model.parameters())
