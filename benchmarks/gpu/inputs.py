"""What merges read, drawn on the device: experts, probe signals and statistics at a language model's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from benchmarks.gpu.models import RANK, Shape
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState, layer_count
from esmerge.calibration.types import BACKBONE, Statistics
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.coefficients.uncertainty import measured_distances
from esmerge.merging.api import MergeRequest
from esmerge.merging.ops.space import tensor_shapes
from esmerge.model.attach import PREFIX
from esmerge.testing.case import Case

SAMPLES = 330
TOKENS = 64  # inputs behind a random Gram matrix


def linear_shapes(shape: Shape, layers: int) -> dict[str, tuple[int, int]]:
    """Module -> (out_features, in_features) of the first layers."""
    narrow = shape.hidden // shape.heads * shape.key_value_heads
    hidden, wide = shape.hidden, shape.intermediate
    attention = {"q_proj": (hidden, hidden), "k_proj": (narrow, hidden), "v_proj": (narrow, hidden)}
    parts = {f"self_attn.{name}": size for name, size in (attention | {"o_proj": (hidden, hidden)}).items()}
    parts |= {"mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide)}
    return {f"{PREFIX}model.layers.{n}.{part}": size for n in range(layers) for part, size in parts.items()}


@dataclass
class Inputs:
    """Made when they are first asked for, and shared by all merges.

    Attributes:
        shape: of the language model.
        layers: that the experts adapt.
        device: where everything is.
        samples: of the probe.
    """

    shape: Shape
    layers: int
    device: str
    samples: int = SAMPLES
    experts_count: int = 3
    _scores: dict[str, dict[str, dict[str, Tensor]]] = field(default_factory=dict)
    _statistics: dict[tuple[str, str], Statistics] = field(default_factory=dict)

    def request(self, case: Case) -> MergeRequest:
        """What a merge reads."""
        measured = {name: self._statistic(name, case.space) for name in case.info.needs}
        request = MergeRequest(
            self.experts, case.space, 0, statistics=measured, task=self._names[:1], device=torch.device(self.device)
        )
        if not case.info.needs_signals:
            return request
        granularity = ESConfig(case.granularity or "joint")
        scores = {name: {} for name in self.experts} if case.granularity == "layer" else self._scored(case.space)
        signals = Signals(self._names, self._names, tuple(range(len(self._names))), *self._responses, scores)
        values = {**vars(request), "signals": signals, "granularity": granularity, "distances": self.distances}
        return MergeRequest(**values)

    @cached_property
    def experts(self) -> dict[str, LoraState]:
        """Adapters in bf16."""
        return {name: self._expert(number) for number, name in enumerate(self._names)}

    @cached_property
    def distances(self) -> Distances:
        """As a sweep measures them once for all merges."""
        scores: Mapping[str, Mapping[str, Tensor]] = {name: {} for name in self._names}
        signals = Signals(self._names, self._names, tuple(range(len(self._names))), *self._responses, scores)
        return measured_distances(signals, ESConfig("joint", resamples=0), 0, device=torch.device(self.device))

    def drop(self, space: str) -> None:
        """Forget the scores and statistics of a merge space: those of dense updates are large."""
        self._scores.pop(space, None)
        self._statistics = {key: value for key, value in self._statistics.items() if key[1] != space}

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(f"expert{number}" for number in range(self.experts_count))

    def _expert(self, number: int) -> LoraState:
        draw = self._draw(number)

        def factor(*size: int) -> Tensor:
            return torch.randn(*size, generator=draw, device=self.device).mul_(0.02).bfloat16()

        modules = {
            module: LoraFactors(factor(RANK, width), factor(height, RANK), 2.0)
            for module, (height, width) in linear_shapes(self.shape, self.layers).items()
        }
        return LoraState(modules, "random")

    @cached_property
    def _responses(self) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """The backbone's and every expert's."""
        draw, size = self._draw(100), (self.layers, self.samples, self.shape.hidden)

        def responses() -> dict[str, Tensor]:
            return {name: torch.randn(size, generator=draw, device=self.device) for name in self._names}

        return responses(), {name: responses() for name in self._names}

    def _scored(self, space: str) -> dict[str, dict[str, Tensor]]:
        if space not in self._scores:
            draw = self._draw(200)
            self._scores[space] = {
                name: {
                    key: torch.rand(*size, generator=draw, device=self.device)
                    for key, size in tensor_shapes(state, space).items()
                }
                for name, state in self.experts.items()
            }
        return self._scores[space]

    def _statistic(self, name: str, space: str) -> Statistics:
        makers: dict[str, Callable[[], Statistics]] = {
            "gram": self._gram,
            "propagated_gram": self._gram,
            "span_inputs": self._span_inputs,
            "fisher": lambda: self._scored(space),
            "channels": self._channels,
            "alignment": self._layer_weights,
            "entropy": self._layer_weights,
            "null_space": self._module_weights,
        }
        if (name, space) not in self._statistics:
            self._statistics[name, space] = makers[name]()
        return self._statistics[name, space]

    def _gram(self) -> Statistics:
        draw, grams = self._draw(300), dict[str, dict[str, Tensor]]()
        for name, state in self.experts.items():
            grams[name] = {}
            for module, entry in state.header.items():
                rows = torch.randn(TOKENS, entry.shape[1], generator=draw, device=self.device)
                grams[name][module] = (rows.T @ rows).div_(TOKENS)
        return grams

    def _span_inputs(self) -> Statistics:
        draw = self._draw(700)
        return {
            name: {
                module: torch.randn(TOKENS, entry.shape[1], generator=draw, device=self.device)
                for module, entry in state.header.items()
            }
            for name, state in self.experts.items()
        }

    def _channels(self) -> Statistics:
        draw, header = self._draw(400), next(iter(self.experts.values())).header
        sizes = {module: entry.shape[1] for module, entry in header.items()}
        return {BACKBONE: {m: torch.rand(width, generator=draw, device=self.device) for m, width in sizes.items()}}

    def _layer_weights(self) -> Statistics:
        draw, depth = self._draw(500), layer_count(next(iter(self.experts.values())))
        return {name: {"layer": torch.rand(depth, generator=draw, device=self.device)} for name in self.experts}

    def _module_weights(self) -> Statistics:
        draw = self._draw(600)
        return {
            name: {module: torch.rand((), generator=draw, device=self.device) for module in state.header}
            for name, state in self.experts.items()
        }

    def _draw(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)
