"""LoRA adapters on a resident backbone, by PEFT: attach, switch, read, detach."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.lora import PREFIX, LoraFactors, LoraState, delta_name, factor_name
from esmerge.core.errors import AdapterError
from esmerge.core.names import layer_of
from esmerge.model.linear_layers import routed_layers
from esmerge.storage.tensor_digest import tensors_digest


def attach(model: nn.Module, states: Mapping[str, LoraState]) -> Callable[[str | None], None]:
    """Attach adapters under their names, none active; returns the switch between them."""
    for name, state in states.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are meant
            _inject(_config(state), model, name)
        _fill(model, name, state)

    def activate(name: str | None) -> None:
        for _, layer in _lora_layers(model):
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter([peft_name(name)])

    activate(None)
    return activate


def peft_name(name: str) -> str:
    """What PEFT calls an attached adapter: it becomes a module's attribute, and ``forward`` alone would be taken."""
    return f"expert_{name}"


def detach(model: nn.Module) -> None:
    """Take every adapter off, putting the original linear layers back."""
    for name, layer in list(_lora_layers(model)):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    model.__dict__.pop("peft_config", None)
    for parameter in model.parameters():
        parameter.requires_grad_(False)


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The bare backbone for a while; what was active, and trained, is so again afterwards."""
    layers = [layer for _, layer in _lora_layers(model)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@contextmanager
def adapters_at(model: nn.Module, where: torch.Tensor) -> Iterator[None]:
    """Adapters act at some positions alone for a while; at the others the backbone is bare.

    Args:
        where: 1 or 0 for every position, (B, T), as the inputs that pass through meanwhile.
    """

    def masked(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        return output * where.to(output.dtype)[..., None]

    hooks = [
        linear.register_forward_hook(masked) for _, layer in _lora_layers(model) for linear in layer.lora_A.values()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def init_lora(
    model: nn.Module, name: str, rank: int, alpha: float, targets: Iterable[str], seed: int
) -> list[nn.Parameter]:
    """Attach a new, active, trainable adapter (B = 0, A drawn from ``seed``); returns its parameters.

    They are float32, and are read in the backbone's number format: in bfloat16 an update below 1/256 of a value would
    be lost, and factors of a wider format than their input would be computed with at half the speed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0)  # type: ignore[arg-type]
        _inject(config, model, name)
    return _trainable(model, name)


def resume_lora(model: nn.Module, name: str, state: LoraState) -> list[nn.Parameter]:
    """Attach an adapter that is active and trained on from where it is; returns its parameters, as ``init_lora`` does.

    Raises:
        AdapterError: it adapts layers that the backbone does not have, or of other shapes.
    """
    _inject(_config(state), model, name)
    _fill(model, name, state)
    return _trainable(model, name)


def _trainable(model: nn.Module, name: str) -> list[nn.Parameter]:
    key = peft_name(name)
    for _, layer in _lora_layers(model):
        layer.set_adapter([key])
        for linear in (layer.lora_A[key], layer.lora_B[key]):
            dtype = linear.weight.dtype
            linear.weight.data = linear.weight.data.float()
            if dtype != torch.float32:
                register_parametrization(linear, "weight", _Rounded(dtype), unsafe=True)
    return [parameter for path, parameter in model.named_parameters() if f".{key}." in path]


def extract_lora(model: nn.Module, name: str, base_model: str) -> LoraState:
    """A copy of an attached adapter's factors."""
    key = peft_name(name)
    modules = {
        PREFIX + path: LoraFactors(
            _stored(layer.lora_A[key]).clone(), _stored(layer.lora_B[key]).clone(), layer.scaling[key]
        )
        for path, layer in _lora_layers(model)
        if key in layer.lora_A
    }
    return LoraState(modules, base_model)


def adapter_digest(state: Update) -> str:
    """Content hash of an adapter, its factors and scales, or of dense updates."""
    if isinstance(state, DenseState):
        return tensors_digest(state.tensors())
    return tensors_digest(state.tensors(), {module: entry.scale for module, entry in state.header.items()})


def adapted_parameters(model: nn.Module, name: str, space: str) -> dict[int, dict[str, nn.Parameter]]:
    """Parameters of an attached adapter by decoder layer, under the names that coefficients are stored by.

    In delta space these are the adapted weights themselves: the gradient with respect to a dense update is that with
    respect to the weight it is added to.

    Raises:
        AdapterError: those weights are quantised, so that there is no gradient with respect to them.
    """
    key, by_layer = peft_name(name), dict[int, dict[str, nn.Parameter]]()
    for path, layer in _lora_layers(model):
        if key not in layer.lora_A:
            continue
        module = PREFIX + path
        entry = by_layer.setdefault(layer_of(module), {})
        if space == "delta":
            entry[delta_name(module)] = _differentiable(path, layer.get_base_layer().weight)
        else:
            entry[factor_name(module, "A")] = layer.lora_A[key].weight
            entry[factor_name(module, "B")] = layer.lora_B[key].weight
    return by_layer


def _differentiable(path: str, weight: nn.Parameter) -> nn.Parameter:
    if not weight.is_floating_point():
        raise AdapterError(
            f"{path} is quantised ({weight.dtype}): in merge_space=delta, element-wise scores are gradients with "
            "respect to the backbone's weights: take merge_space=factors, or leave the backbone in plain numbers, "
            "backbone.quantise=null"
        )
    return weight


class _Rounded(nn.Module):
    """Reads a float32 parameter in another number format."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The rounded weight, of the same shape."""
        return weight.to(self.dtype)


def _stored(linear: nn.Module) -> torch.Tensor:
    """A factor as it is trained, not as it is read."""
    if is_parametrized(linear, "weight"):
        return linear.get_parameter("parametrizations.weight.original").detach()
    return linear.get_parameter("weight").detach()


def _inject(config: LoraConfig, model: nn.Module, name: str) -> None:
    """Put PEFT's layers in.

    PEFT would look for the stacks of a mixture whose experts have been taken apart, which it knows by the model's own
    config; inside a plain module it looks at names alone.
    """
    inside = nn.ModuleDict({"inside": model}) if any(routed_layers(model)) else model
    inject_adapter_in_model(config, inside, adapter_name=peft_name(name))


def _fill(model: nn.Module, name: str, state: LoraState) -> None:
    """Copy an adapter's factors into the layers that were made for it."""
    key, layers = peft_name(name), dict(_lora_layers(model))
    absent = [module for module in state.modules if module.removeprefix(PREFIX) not in layers]
    if absent:
        raise AdapterError(f"adapter {name!r} adapts {', '.join(absent)}: the backbone has no such linear layers")
    for module, factors in state.modules.items():
        layer = layers[module.removeprefix(PREFIX)]
        shapes = tuple(layer.lora_A[key].weight.shape), tuple(layer.lora_B[key].weight.shape)
        if shapes != (tuple(factors.a.shape), tuple(factors.b.shape)):
            raise AdapterError(
                f"adapter {name!r}: {module} has A {tuple(factors.a.shape)} and B {tuple(factors.b.shape)}, the "
                f"backbone needs {shapes[0]} and {shapes[1]}"
            )
        layer.lora_A[key].weight.data.copy_(factors.a)
        layer.lora_B[key].weight.data.copy_(factors.b)
        layer.scaling[key] = factors.scale


def _lora_layers(model: nn.Module) -> Iterable[tuple[str, Any]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def _config(state: LoraState) -> LoraConfig:
    names = {module.removeprefix(PREFIX): entry.rank for module, entry in state.header.items()}
    rank = next(iter(names.values()))
    rank_pattern = {name: r for name, r in names.items() if r != rank}
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=list(names), rank_pattern=rank_pattern, lora_dropout=0.0)
