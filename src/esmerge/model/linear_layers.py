"""The linear layers of a backbone. Those whose maps are kept otherwise than as ``nn.Linear`` are put into that form.

What a model computes stays the same. Everything that attaches, scores or adds updates then knows one kind of layer.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter
from transformers.pytorch_utils import Conv1D

GATE_UP, DOWN = "gate_up_proj", "down_proj"


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Path -> layer, of all linear layers."""
    return {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}


def conv1d_paths(model: nn.Module) -> set[str]:
    """Of the layers that ``replace_conv1d`` replaces."""
    return {path for path, module in model.named_modules() if isinstance(module, Conv1D)}


def replace_conv1d(model: nn.Module) -> None:
    """Put a linear layer in the place of every Conv1D, GPT-2's linear map with weights stored as (in, out)."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = _linear(module.weight.detach().T.contiguous())
            linear.bias = module.bias
            _put(model, path, linear)


@dataclass(frozen=True)
class ExpertNames:
    """What the linear maps of one expert of a mixture are called where each stands by itself."""

    gate: str
    up: str
    down: str


class ExpertLayers(nn.ModuleDict):
    """One expert's linear layers by name.

    Attributes:
        positions: that were given to it last, among those that its mixture was given, and how many these were.
    """

    positions: tuple[Tensor, int] | None = None

    def spread(self, inputs: Tensor) -> Tensor:
        """What one of the layers is given, (rows, features), as rows of all positions, zeros elsewhere."""
        if self.positions is None:
            return inputs
        index, count = self.positions
        return inputs.new_zeros(count, inputs.shape[-1]).index_copy_(0, index, inputs)


class SeparateExperts(nn.ModuleList):
    """The experts of a mixture as linear layers of their own, on the very weights of the module that held them as two
    stacks.

    Args:
        fused: with ``gate_up_proj``, (experts, 2 · inner, hidden), and ``down_proj``, (experts, hidden, inner).
        names: of the layers.
        gated: both outputs of an expert's first layers, (positions, 2 · inner), -> what its last one reads.
    """

    def __init__(self, fused: nn.Module, names: ExpertNames, gated: Callable[[Tensor], Tensor]) -> None:
        gate_up, down = fused.get_parameter(GATE_UP).detach(), fused.get_parameter(DOWN).detach()
        self.names = names
        super().__init__(
            ExpertLayers({names.gate: _linear(gate), names.up: _linear(up), names.down: _linear(down[index])})
            for index, weight in enumerate(gate_up)
            for gate, up in [weight.chunk(2)]
        )
        self.gated, self.inner = gated, down.shape[2]

    def experts(self) -> list[ExpertLayers]:
        """Each expert's layers."""
        return [typing.cast(ExpertLayers, expert) for expert in self]

    def layer_names(self) -> tuple[str, str, str]:
        """Of each expert's layers."""
        return self.names.gate, self.names.up, self.names.down

    def forward(self, hidden: Tensor, expert_index: Tensor, expert_weight: Tensor) -> Tensor:
        """The experts' weighted sum, (positions, hidden).

        Args:
            hidden: (positions, hidden).
            expert_index: experts of each position, (positions, k).
            expert_weight: their weights, (positions, k).
        """
        total = torch.zeros_like(hidden)
        for index, expert in enumerate(self.experts()):
            position, rank = torch.where(expert_index == index)
            if not len(position):
                continue
            states, expert.positions = hidden[position], (position, len(hidden))
            inner = torch.cat([expert[self.names.gate](states), expert[self.names.up](states)], dim=-1)
            output = expert[self.names.down](self.gated(inner)) * expert_weight[position, rank, None]
            total.index_add_(0, position, output.to(total.dtype))
        return total


def separate_experts(model: PreTrainedModel, adapted: Iterable[str] | None = None) -> None:
    """Put linear layers in the place of stacked experts, under the names that PEFT's adapters give them.

    Args:
        adapted: paths of layers that are needed; by default every mixture is taken apart. What is not needed stays
            stacked, which computes faster.
    """
    names = _expert_names(model)
    paths = None if adapted is None else list(adapted)
    for path, module in list(model.named_modules()):
        if names is None or not _is_stacked(module):
            continue
        if paths is None or any(adapted_path.startswith(f"{path}.") for adapted_path in paths):
            _put(model, path, SeparateExperts(module, names, module._apply_gate))


def routed_layers(model: nn.Module) -> Iterator[tuple[str, SeparateExperts]]:
    """The mixtures that were taken apart, by path."""
    return ((path, module) for path, module in model.named_modules() if isinstance(module, SeparateExperts))


def routes_positions(layers: Iterable[nn.Module]) -> bool:
    """Whether decoder layers hold lists of modules, such as experts that are given some of the positions each.

    Which batch a position belongs to is not known inside such a module.
    """
    return any(isinstance(module, nn.ModuleList) for layer in layers for module in layer.modules())


def _is_stacked(module: nn.Module) -> bool:
    """Whether a module holds gated experts as two stacks of (out, in) weights without biases."""
    stacks: Mapping[str, nn.Parameter | None] = dict(module.named_parameters(recurse=False))
    if set(stacks) != {GATE_UP, DOWN}:
        return False
    gate_up, down = stacks[GATE_UP], stacks[DOWN]
    if gate_up is None or down is None or gate_up.ndim != 3 or down.ndim != 3:
        return False
    layout = vars(module)  # transformers' decorator of such modules says how they are stored
    concatenated = layout.get("is_concatenated", False) and not layout.get("is_transposed", True)
    return bool(concatenated and gate_up.shape[1] == 2 * down.shape[2] and gate_up.shape[2] == down.shape[1])


def _expert_names(model: PreTrainedModel) -> ExpertNames | None:
    """From transformers' own record of how separate experts of older checkpoints are stacked."""
    names: dict[str, list[str]] = {}
    for conversion in get_model_conversion_mapping(model):
        if not isinstance(conversion, WeightConverter) or len(conversion.target_patterns) != 1:
            continue
        stack = conversion.target_patterns[0].rpartition(".")[2]
        plain = all(isinstance(step, MergeModulelist | Concatenate) for step in conversion.operations)
        if plain and all("experts.*." in pattern for pattern in conversion.source_patterns):
            names.setdefault(stack, [_layer_name(pattern) for pattern in conversion.source_patterns])
    if len(names.get(GATE_UP, [])) != 2 or len(names.get(DOWN, [])) != 1:
        return None
    layers = [*names[GATE_UP], *names[DOWN]]
    return ExpertNames(*layers) if _peft_stacks(model, layers) else None


def _peft_stacks(model: PreTrainedModel, layers: list[str]) -> bool:
    """Whether PEFT loads adapters of single experts onto this model's stacks, and so what a merge leaves of them."""
    config = LoraConfig(target_modules=layers)
    convert_peft_config_for_transformers(config, model, None)
    return {GATE_UP, DOWN} <= set(config.target_parameters or ())


def _layer_name(pattern: str) -> str:
    """``w1`` of ``.experts.*.w1.weight``."""
    return pattern.removesuffix("$").removesuffix(".weight").rpartition(".")[2]


def _linear(weight: Tensor) -> nn.Linear:
    """A frozen layer on a given weight, (out, in), which is not copied."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
