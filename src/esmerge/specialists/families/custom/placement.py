"""Where the weights of a backbone's layers stand in its checkpoint, which may name, stack and turn them otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedModel

from esmerge.adapters.export import Placement, checkpoint_tensors
from esmerge.adapters.lora import PREFIX
from esmerge.model.linear_layers import DOWN, GATE_UP, conv1d_paths, replace_conv1d, routed_layers, separate_experts
from esmerge.model.module_names import WEIGHT, ModuleNames
from esmerge.specialists.families.custom.backbone import hollow_model


def weight_placements(backbone: str, trusted: bool) -> dict[str, Placement]:
    """Module name -> where its weight stands, of every linear layer that the checkpoint holds.

    Args:
        backbone: a Hugging Face folder.
        trusted: whether code of its own may be run.

    Raises:
        AdapterError: the folder holds no safetensors, or not all that it should.
        ConfigError: the model cannot be built.
    """
    model = hollow_model(backbone, trusted)
    turned = conv1d_paths(model)
    replace_conv1d(model)
    separate_experts(model)
    names, stacks = ModuleNames(model), dict(_stacks(model))
    placements: dict[str, Placement] = {}
    for tensor in checkpoint_tensors(backbone):
        path, stack = names.find(tensor.removesuffix(WEIGHT)), names.find_stack(tensor)
        if tensor.endswith(WEIGHT) and path is not None:
            placements[PREFIX + path] = Placement(tensor, transposed=path in turned)
        elif stack is not None:
            placements |= {PREFIX + path: Placement(tensor, index, rows) for path, index, rows in stacks[stack]}
    return placements


Slices = list[tuple[str, int, tuple[int, int] | None]]
"""(path of a layer, which of the stack, which rows of it)."""


def _stacks(model: PreTrainedModel) -> Iterator[tuple[str, Slices]]:
    """Name of each stack of experts' weights -> the layers that it holds."""
    for path, mixture in routed_layers(model):
        names, inner = mixture.names, mixture.inner
        halves = ((names.gate, (0, inner)), (names.up, (inner, 2 * inner)))
        experts = range(len(mixture))
        yield f"{path}.{GATE_UP}", [(f"{path}.{i}.{name}", i, rows) for i in experts for name, rows in halves]
        yield f"{path}.{DOWN}", [(f"{path}.{i}.{names.down}", i, None) for i in experts]
