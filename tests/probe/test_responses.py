"""The probe against independent oracles: a whole retained graph without PEFT, finite differences, plain forwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests import small
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from esmerge.adapters.lora import LoraFactors, LoraState, delta_name, factor_name
from esmerge.coefficients.types import Signals
from esmerge.core.errors import InputError
from esmerge.core.names import layer_of
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.attach import PREFIX
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import Batch
from esmerge.probe import responses
from esmerge.probe.execution import Execution
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.responses import collect
from esmerge.probe.span_index import SpanIndex
from esmerge.probe.variants.mixed import mixed
from esmerge.probe.variants.single import single
from esmerge.specialists.specialists import Specialists

TWO = {"mol": "molecule", "gene": "cell"}
THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}
SPECIALISTS = {"two": TWO, "three": THREE}


@pytest.fixture(scope="module", params=SPECIALISTS)
def specialists(request: pytest.FixtureRequest) -> Specialists:
    return small.specialists(SPECIALISTS[request.param])


@contextmanager
def added(specialists: Specialists, state: LoraState) -> Iterator[None]:
    """The adapter as forward hooks on the bare linear layers: y + scale * B (A x)."""
    handles = []
    for module, factors in state.modules.items():
        layer = specialists.backbone.model.get_submodule(module.removeprefix(PREFIX))

        def hook(_: object, args: tuple[Tensor], output: Tensor, f: LoraFactors = factors) -> Tensor:
            return output + f.scale * (args[0] @ f.a.T @ f.b.T)

        handles.append(layer.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layer_outputs(specialists: Specialists, batch: Batch) -> list[Tensor]:
    """Outputs of the decoder layers before the final norm, nothing detached; (B, T, hidden) each."""
    outputs: list[Tensor] = []
    model = specialists.backbone.model
    handles = [
        layer.register_forward_hook(lambda _, args, out: outputs.append(out[0] if isinstance(out, tuple) else out))
        for layer in model.model.layers
    ]
    try:
        model(inputs_embeds=batch.embeds, attention_mask=batch.mask)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def own_rows(batch: Batch, modality: str) -> list[tuple[int, int]]:
    """(sequence, position) of every token of a modality."""
    return [
        (row, place)
        for row, spans in enumerate(batch.spans)
        for span in spans
        if span.modality == modality
        for place in range(span.start, span.stop)
    ]


def batches(specialists: Specialists, prompts: Sequence[Prompt], size: int) -> list[Batch]:
    return [specialists.prompt_encoder.batch(prompts[start : start + size]) for start in range(0, len(prompts), size)]


def losses(specialists: Specialists, batch: Batch, reference: list[Tensor], modality: str) -> list[Tensor]:
    rows = own_rows(batch, modality)
    if not rows:
        return []
    index = tuple(torch.tensor(column) for column in zip(*rows, strict=True))
    pairs = zip(layer_outputs(specialists, batch), reference, strict=True)
    return [((out[index] - base[index]) ** 2).mean() for out, base in pairs]


def whole_graph_scores(
    specialists: Specialists, name: str, prompts: Sequence[Prompt], size: int, power: int
) -> dict[str, Tensor]:
    """Sum over batches of |d loss[l] / d theta| ** power, by differentiating one retained graph of all layers."""
    state = specialists.adapters[name]
    leaves = {
        module: LoraFactors(f.a.clone().requires_grad_(), f.b.clone().requires_grad_(), f.scale)
        for module, f in state.modules.items()
    }
    totals: dict[str, Tensor] = {}
    for batch in batches(specialists, prompts, size):
        with torch.no_grad():
            reference = layer_outputs(specialists, batch)
        with added(specialists, LoraState(leaves)):
            by_layer = losses(specialists, batch, reference, specialists.expert_modality[name])
        for layer, loss in enumerate(by_layer):
            for module, factors in leaves.items():
                if layer_of(module) != layer:
                    continue
                gradients = torch.autograd.grad(loss, [factors.a, factors.b], retain_graph=True)
                for letter, gradient in zip("AB", gradients, strict=True):
                    key = factor_name(module, letter)
                    totals[key] = totals.get(key, torch.zeros(())) + gradient.abs() ** power
    return totals


def relative(value: Tensor, expected: Tensor) -> float:
    assert value.shape == expected.shape
    assert float(expected.abs().max()) > 0
    return float((value - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("score", ["absolute", "squared"])
def test_factor_scores_equal_those_of_the_whole_retained_graph(specialists: Specialists, score: str) -> None:
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)
    signals = collect(specialists, prompts, 2, "factors", score)
    for name in specialists.adapters:
        expected = whole_graph_scores(specialists, name, prompts, 2, {"absolute": 1, "squared": 2}[score])
        assert set(signals.scores[name]) == set(expected) == set(specialists.adapters[name].tensors())
        assert max(relative(signals.scores[name][key], value) for key, value in expected.items()) <= 1e-5


@pytest.mark.parametrize("score", ["absolute", "squared"])
def test_a_scaled_loss_leaves_scores_as_they_are(
    specialists: Specialists, score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power of two is exact in float32; in float16 it is what keeps gradients from becoming zero."""
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)
    plain = collect(specialists, prompts, 2, "factors", score)
    monkeypatch.setattr(SpanIndex, "scale", lambda *_: torch.tensor(2.0**10))
    scaled = collect(specialists, prompts, 2, "factors", score)
    for name, by_tensor in plain.scores.items():
        for key, values in by_tensor.items():
            assert torch.equal(scaled.scores[name][key], values)


def test_gradients_of_a_mean_over_many_tokens_are_numbers_in_float16() -> None:
    tokens, hidden = 2000, 256
    index = SpanIndex({}, {"cell": torch.arange(tokens)}, {"cell": torch.full((tokens,), 1 / tokens)})
    still = torch.randn(1, tokens, hidden, generator=torch.Generator().manual_seed(0)).half()
    moved = (still * 1.01).requires_grad_()
    expected = 2 / (tokens * hidden) * (moved.detach().float() - still.float())
    index.loss("cell", moved, still).backward()
    assert moved.grad is not None and (moved.grad == 0)[expected != 0].float().mean() > 0.5
    moved.grad, scale = None, index.scale("cell", moved, still)
    assert scale is not None and scale.log2().frac() == 0
    (scale * index.loss("cell", moved, still)).backward()
    assert moved.grad is not None and 2.0**-4 < moved.grad.abs().max() <= 2.0**-3
    torch.testing.assert_close(moved.grad.float() / scale, expected, rtol=1e-3, atol=float(2.0**-25 / scale))
    assert index.scale("cell", still, still) == 1 and index.scale("cell", still.float(), still.float()) is None


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_maps_that_are_left_to_peft_are_scored_all_the_same(specialists: Specialists, space: str) -> None:
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)
    expected = collect(specialists, prompts, 2, space).scores
    peft_scores = collect(specialists, prompts, 2, space, execution=Execution(direct=False)).scores
    assert peft_scores.keys() == expected.keys()
    for name, scores in expected.items():
        assert peft_scores[name].keys() == scores.keys()
        assert max(relative(peft_scores[name][key], value) for key, value in scores.items()) <= 1e-5


def test_scores_of_prompts_with_one_modality_come_from_those_prompts_alone() -> None:
    specialists = small.specialists(THREE)
    prompts = single(ProbeSettings(samples=3), specialists, seed=0)
    signals = collect(specialists, prompts, 2, "factors")
    for name in specialists.adapters:
        expected = whole_graph_scores(specialists, name, prompts, 2, 1)
        assert max(relative(signals.scores[name][key], value) for key, value in expected.items()) <= 1e-5


def test_delta_scores_equal_finite_differences_of_the_dense_update(specialists: Specialists) -> None:
    prompts = mixed(ProbeSettings(samples=3), specialists, seed=1)
    signals = collect(specialists, prompts, 2, "delta")
    name, step = list(specialists.adapters)[-1], 1e-3
    double = replace(specialists, backbone=small.backbone())  # a fresh copy of the same weights, in double precision
    double.backbone.model.double()
    state = LoraState(
        {m: LoraFactors(f.a.double(), f.b.double(), f.scale) for m, f in specialists.adapters[name].modules.items()}
    )
    for module in state.modules:
        scores = signals.scores[name][delta_name(module)]
        weight = double.backbone.model.get_submodule(module.removeprefix(PREFIX)).weight
        assert scores.shape == weight.shape
        place = divmod(int(scores.argmax()), scores.shape[1])
        total = 0.0
        for batch in batches(double, prompts, 2):
            total += abs(_slope(double, batch, state, module, place, step, specialists.expert_modality[name]))
        assert float(scores[place]) == pytest.approx(total, rel=1e-3)


def test_delta_scores_equal_those_of_the_whole_retained_graph(specialists: Specialists) -> None:
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)
    signals = collect(specialists, prompts, 2, "delta")
    for name, state in specialists.adapters.items():
        # an update D = 0 beside the expert's own: d loss / d D is the gradient with respect to the dense update
        expected: dict[str, Tensor] = {}
        for batch in batches(specialists, prompts, 2):
            with torch.no_grad():
                reference = layer_outputs(specialists, batch)
            leaves = {module: torch.zeros_like(f.delta()).requires_grad_() for module, f in state.modules.items()}
            extra = {m: LoraFactors(torch.eye(d.shape[1]), d, 1.0) for m, d in leaves.items()}
            with added(specialists, state), added(specialists, LoraState(extra)):
                by_layer = losses(specialists, batch, reference, specialists.expert_modality[name])
            for module, leaf in leaves.items():
                (gradient,) = torch.autograd.grad(by_layer[layer_of(module)], [leaf], retain_graph=True)
                key = delta_name(module)
                expected[key] = expected.get(key, torch.zeros(())) + gradient.abs()
        assert set(signals.scores[name]) == set(expected)
        assert max(relative(signals.scores[name][key], value) for key, value in expected.items()) <= 1e-5


def _slope(
    specialists: Specialists,
    batch: Batch,
    state: LoraState,
    module: str,
    place: tuple[int, int],
    step: float,
    modality: str,
) -> float:
    """Central difference of the layer's loss in one entry of the expert's dense update."""
    with torch.no_grad():
        reference = layer_outputs(specialists, batch)
        weight = specialists.backbone.model.get_submodule(module.removeprefix(PREFIX)).weight
        values = []
        for sign in (1, -1):
            before = weight[place].item()
            weight[place] = before + sign * step
            with added(specialists, state):
                values.append(float(losses(specialists, batch, reference, modality)[layer_of(module)]))
            weight[place] = before
    return (values[0] - values[1]) / (2 * step)


def pooled_by_hand(specialists: Specialists, segments: Prompt, state: LoraState | None) -> dict[str, list[Tensor]]:
    """Mean output of each layer over each span of one prompt, alone in its batch: modality -> spans of (L, hidden)."""
    batch = specialists.prompt_encoder.batch([segments])
    with torch.no_grad(), added(specialists, state or LoraState({})):
        outputs = layer_outputs(specialists, batch)
    pooled: dict[str, list[Tensor]] = {}
    for span in batch.spans[0]:
        rows = [torch.stack([out[0, place] for place in range(span.start, span.stop)]).mean(0) for out in outputs]
        pooled.setdefault(span.modality, []).append(torch.stack(rows))
    return pooled


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pooled_responses_are_span_means_of_plain_forwards_whatever_the_batch(
    specialists: Specialists, batch_size: int
) -> None:
    prompts = mixed(ProbeSettings(samples=4), specialists, seed=2)
    assert len({specialists.prompt_encoder.encode([segments])[0].ids.__len__() for segments in prompts}) > 1, (
        "padding is at work"
    )
    signals = collect(specialists, prompts, batch_size, "factors")
    for name in (None, *specialists.adapters):
        state = None if name is None else specialists.adapters[name]
        columns = signals.backbone if name is None else signals.responses[name]
        rows = [pooled_by_hand(specialists, segments, state) for segments in prompts]
        for modality in specialists.modalities:
            expected = torch.stack([row[modality][0] for row in rows], dim=1)
            assert columns[modality].shape == expected.shape == (3, len(prompts), 16)
            assert torch.allclose(columns[modality], expected, atol=1e-5)


def test_signals_name_experts_and_their_own_modality_in_the_specialists_order(specialists: Specialists) -> None:
    signals = collect(specialists, mixed(ProbeSettings(samples=1), specialists, 0), 2, "factors")
    assert signals.experts == tuple(specialists.adapters)
    assert [signals.modalities[index] for index in signals.own] == list(specialists.expert_modality.values())


def test_two_experts_of_one_modality_share_its_tokens() -> None:
    specialists = small.specialists({"first": "molecule", "second": "molecule", "gene": "cell"})
    signals = collect(specialists, mixed(ProbeSettings(samples=2), specialists, 0), 2, "factors")
    assert signals.modalities == ("molecule", "cell") and signals.own == (0, 0, 1)
    assert not torch.equal(signals.responses["first"]["molecule"], signals.responses["second"]["molecule"])


def parameters_of(specialists: Specialists) -> dict[str, tuple[bool, Tensor]]:
    return {name: (p.requires_grad, p.detach().clone()) for name, p in specialists.backbone.model.named_parameters()}


@pytest.mark.parametrize("space", ["factors", "delta"])
@pytest.mark.parametrize("trainable", [False, True])
def test_the_backbone_is_left_as_it_was_found(specialists: Specialists, space: str, trainable: bool) -> None:
    first = next(specialists.backbone.model.parameters())
    first.requires_grad_(trainable)
    before = parameters_of(specialists)
    collect(specialists, mixed(ProbeSettings(samples=2), specialists, 0), 2, space)
    after = parameters_of(specialists)
    first.requires_grad_(False)
    assert list(after) == list(before)
    assert all(after[name][0] == flag and torch.equal(after[name][1], value) for name, (flag, value) in before.items())
    assert all(p.grad is None for p in specialists.backbone.model.parameters())


def test_an_error_half_way_leaves_the_backbone_without_adapters(specialists: Specialists) -> None:
    before = parameters_of(specialists)
    good = mixed(ProbeSettings(samples=2), specialists, 0)
    with pytest.raises(InputError, match="cell '' is empty"):
        collect(specialists, [*good, (Entity("cell", ""),)], 2, "factors")
    assert list(parameters_of(specialists)) == list(before)


def test_a_probe_without_an_experts_modality_is_refused_by_name(specialists: Specialists) -> None:
    prompts: list[Prompt] = [("drug : ", Entity("molecule", "CCO"))]
    with pytest.raises(InputError, match="holds no .*cell"):
        collect(specialists, prompts, 2, "factors")


def test_an_inert_adapter_responds_like_the_backbone_bit_for_bit(specialists: Specialists) -> None:
    name, state = next(iter(specialists.adapters.items()))
    inert = LoraState({m: LoraFactors(f.a, torch.zeros_like(f.b), f.scale) for m, f in state.modules.items()})
    quiet = replace(specialists, adapters={**specialists.adapters, name: inert})
    signals: Signals = collect(quiet, mixed(ProbeSettings(samples=3), quiet, 0), 2, "factors")
    for modality in specialists.modalities:
        assert torch.equal(signals.responses[name][modality], signals.backbone[modality])
    assert all(not score.any() for score in signals.scores[name].values())


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_where_gradients_go_is_made_once_for_all_passes(
    specialists: Specialists, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made anew by every pass it would leave holes in memory, more of them the more layers there are."""
    known_counts: list[int] = []
    original = responses.run

    def run(backbone: Backbone, *args: Any) -> None:
        edges = [get_gradient_edge(p).node for p in backbone.model.parameters() if p.requires_grad]
        known_counts.append(sum("seen" in edge.metadata for edge in edges))
        for edge in edges:
            edge.metadata["seen"] = True
        del edges, edge
        original(backbone, *args)

    monkeypatch.setattr(responses, "run", run)
    prompts = mixed(ProbeSettings(samples=3), specialists, seed=0)
    collect(specialists, prompts, batch_size=1, space=space, execution=Execution(positions=0))
    assert known_counts[0] == 0
    assert known_counts[1] == known_counts[2] > 0
