"""Random adapters at a language model's shapes, and random signals and measures of the shapes that merges read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState, layer_count
from esmerge.calibration.types import BACKBONE, Statistics
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.core.torch_rng import torch_generator
from esmerge.merging.api import MERGES, MergeInput
from esmerge.merging.ops.space import tensor_shapes
from esmerge.model.attach import PREFIX

TOKENS = 64  # inputs behind a random Gram matrix


@dataclass(frozen=True)
class Shapes:
    """A language model as merges see it.

    Attributes:
        layers: decoder layers.
        linear: linear module of a layer -> (out_features, in_features).
        samples: probe samples behind a layer's responses.
        hidden: width of the responses.
    """

    layers: int
    linear: Mapping[str, tuple[int, int]]
    samples: int
    hidden: int


def _llama(layers: int, hidden: int, narrow: int, wide: int, samples: int) -> Shapes:
    attention = {"q_proj": (hidden, hidden), "k_proj": (narrow, hidden), "v_proj": (narrow, hidden)}
    attention["o_proj"] = (hidden, hidden)
    feedforward = {"gate_proj": (wide, hidden), "up_proj": (wide, hidden), "down_proj": (hidden, wide)}
    linear = {f"self_attn.{name}": shape for name, shape in attention.items()}
    return Shapes(layers, linear | {f"mlp.{name}": shape for name, shape in feedforward.items()}, samples, hidden)


SHAPES = {
    "llama-3.1-8b": _llama(32, 4096, 1024, 14336, samples=330),
    "smollm2-135m": _llama(30, 576, 192, 1536, samples=330),
    "tiny": _llama(2, 16, 8, 24, samples=3),
}


@dataclass(frozen=True)
class Adapters:
    """Which adapters are made.

    Attributes:
        shapes: a name in ``SHAPES``.
        layers: how many of its layers they adapt.
        experts: how many there are.
        rank: of every factor.
        dtype: torch's name of their number format.
    """

    shapes: str
    layers: int
    experts: int
    rank: int
    dtype: str

    def modules(self) -> dict[str, tuple[int, int]]:
        """Module name -> (out_features, in_features)."""
        linear = SHAPES[self.shapes].linear.items()
        return {f"{PREFIX}model.layers.{n}.{part}": shape for n in range(self.layers) for part, shape in linear}

    def size(self) -> int:
        """Bytes of all experts' factors together."""
        entries = sum(self.rank * (height + width) for height, width in self.modules().values())
        return self.experts * entries * getattr(torch, self.dtype).itemsize

    def make(self) -> dict[str, LoraState]:
        """The experts, with normal entries and LoRA scale 2."""
        return {f"expert{number}": self._expert(f"expert{number}") for number in range(self.experts)}

    def _expert(self, name: str) -> LoraState:
        draw, dtype = torch_generator(0, name), getattr(torch, self.dtype)

        def factor(*shape: int) -> Tensor:
            return (0.02 * torch.randn(*shape, generator=draw)).to(dtype)

        modules = {
            module: LoraFactors(factor(self.rank, width), factor(height, self.rank), 2.0)
            for module, (height, width) in self.modules().items()
        }
        return LoraState(modules, self.shapes)


def make_input(name: str, space: str, granularity: str | None, adapters: Adapters) -> MergeInput:
    """What merge ``name`` reads: the experts, and random signals and measures only where it uses them."""
    info, experts = MERGES.get(name).info, adapters.make()
    measured = {measure: MEASURED[measure](experts, space) for measure in info.needs}
    inputs = MergeInput(experts, space, statistics=measured, task=tuple(experts)[:1])
    if not info.needs_signals:
        return inputs
    signals = make_signals(experts, space, SHAPES[adapters.shapes])
    if granularity == "layer":  # weighs layers, so it reads no score of any entry
        signals = replace(signals, scores={name: {} for name in experts})
    return replace(inputs, signals=signals, granularity=ESConfig(granularity or "joint"))


def make_signals(experts: Mapping[str, LoraState], space: str, shapes: Shapes) -> Signals:
    """Responses and scores of a probe in which every expert owns a modality."""
    kinds = tuple(f"modality{number}" for number in range(len(experts)))
    depth = layer_count(next(iter(experts.values())))

    def responses(name: str) -> dict[str, Tensor]:
        draw = torch_generator(0, "responses", name)
        return {kind: torch.randn(depth, shapes.samples, shapes.hidden, generator=draw) for kind in kinds}

    return Signals(
        tuple(experts),
        kinds,
        tuple(range(len(experts))),
        responses(BACKBONE),
        {name: responses(name) for name in experts},
        make_scores(experts, space),
    )


def make_scores(experts: Mapping[str, LoraState], space: str) -> dict[str, dict[str, Tensor]]:
    """A number in [0, 1) for every entry that is merged in ``space``."""
    scores = {}
    for name, state in experts.items():
        draw = torch_generator(0, "scores", name)
        shapes = tensor_shapes(state, space).items()
        scores[name] = {key: torch.rand(*shape, generator=draw) for key, shape in shapes}
    return scores


def make_gram(experts: Mapping[str, LoraState], space: str) -> Statistics:
    """Input Gram matrices, (in, in)."""
    grams: dict[str, dict[str, Tensor]] = {}
    for name, state in experts.items():
        draw, grams[name] = torch_generator(0, "gram", name), {}
        for module, factors in state.modules.items():
            inputs = torch.randn(TOKENS, factors.a.shape[1], generator=draw)
            grams[name][module] = (inputs.T @ inputs).div_(TOKENS)
    return grams


def make_span_inputs(experts: Mapping[str, LoraState], space: str) -> Statistics:
    """Inputs of every module at some tokens, (tokens, in)."""
    span_inputs: dict[str, dict[str, Tensor]] = {}
    for name, state in experts.items():
        draw = torch_generator(0, "spans", name)
        span_inputs[name] = {m: torch.randn(TOKENS, f.a.shape[1], generator=draw) for m, f in state.modules.items()}
    return span_inputs


def make_channels(experts: Mapping[str, LoraState], space: str) -> Statistics:
    """Mean magnitudes of the backbone's inputs, (in,)."""
    modules = next(iter(experts.values())).modules
    draw = torch_generator(0, "channels")
    return {BACKBONE: {module: torch.rand(f.a.shape[1], generator=draw) for module, f in modules.items()}}


def make_layer_weights(experts: Mapping[str, LoraState], space: str) -> Statistics:
    """One weight per expert and layer."""
    depth = layer_count(next(iter(experts.values())))
    return {name: {"layer": torch.rand(depth, generator=torch_generator(0, "layers", name))} for name in experts}


def make_module_weights(experts: Mapping[str, LoraState], space: str) -> Statistics:
    """One weight per expert and module."""
    draw = torch_generator(0, "modules")
    return {name: {m: torch.rand((), generator=draw) for m in state.modules} for name, state in experts.items()}


MEASURED: Mapping[str, Callable[[Mapping[str, LoraState], str], Statistics]] = {
    "gram": make_gram,
    "propagated_gram": make_gram,
    "span_inputs": make_span_inputs,
    "fisher": make_scores,
    "channels": make_channels,
    "alignment": make_layer_weights,
    "entropy": make_layer_weights,
    "null_space": make_module_weights,
}
