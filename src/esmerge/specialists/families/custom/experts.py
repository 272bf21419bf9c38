"""The user's adapters: opened, completed where that is allowed, and held against each other and the backbone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import PREFIX, LazyModules, LoraFactors, LoraState, is_zero, some
from esmerge.adapters.peft_files import adapter_folder
from esmerge.adapters.peft_folder import natural, open_adapter
from esmerge.core.errors import AdapterError
from esmerge.core.paths import user_path
from esmerge.model.backbone import decoder_layers
from esmerge.model.linear_layers import linear_layers
from esmerge.specialists.families.custom.backbone import located, read_config
from esmerge.specialists.families.custom.base_model import is_base_model
from esmerge.specialists.families.custom.naming import check_mixtures, under_own_names
from esmerge.specialists.families.custom.settings import CustomSettings

UNTRAINED = "its update is zero everywhere, as before the first training step: it adds nothing to a merge"


def open_experts(settings: CustomSettings) -> dict[str, LoraState]:
    """The adapters as they are: their headers now, their tensors module by module when they are asked for.

    Raises:
        AdapterError: one is not plain LoRA, or names another backbone.
    """
    experts = {
        name: open_adapter(user_path(expert.path, f"experts.{name}"), name)
        for name, expert in settings.described().items()
    }
    _warn_of_twins(settings)
    if not settings.allow_other_base:
        _check_bases(experts, located(settings.source().path), settings.source().trust_remote_code)
    return experts


def _warn_of_twins(settings: CustomSettings) -> None:
    folders: dict[Path, list[str]] = {}
    for name, expert in settings.described().items():
        folder = adapter_folder(user_path(expert.path, f"experts.{name}"), name).resolve()
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        if len(names) > 1:
            warnings.warn(
                f"experts {' and '.join(names)} are one adapter, {folder}: is one of the paths wrong?", stacklevel=3
            )


def untrained(experts: Mapping[str, LoraState]) -> list[str]:
    """The experts whose update is zero everywhere; of each other one the first modules are read."""
    return [name for name, state in experts.items() if is_zero(state)]


def missing_modules(experts: Mapping[str, LoraState]) -> dict[str, list[str]]:
    """Expert -> the modules that it lacks and another one adapts; experts that lack none are left out."""
    union = {module: None for state in experts.values() for module in state.modules}
    missing = {name: [module for module in union if module not in state.modules] for name, state in experts.items()}
    return {name: modules for name, modules in missing.items() if modules}


def completed(experts: Mapping[str, LoraState], allow_partial: bool) -> dict[str, LoraState]:
    """The adapters with the same modules each.

    A module that an expert lacks counts as an update of zero: A and B of zeros, of the rank and scale that the first
    expert which has the module gives it. In factor space such an expert adds nothing to A* and B*, in delta space
    nothing to ΔW*; its coefficients stay, and those of every entry still sum to 1 over all experts.

    Raises:
        AdapterError: modules are missing and ``allow_partial`` is not said.
    """
    missing = missing_modules(experts)
    if missing and not allow_partial:
        listing = "; ".join(f"{name!r} lacks {some(modules)}" for name, modules in missing.items())
        raise AdapterError(
            f"the experts adapt different modules: {listing}. Say allow_partial=true to take them for updates of zero "
            "(in sweeps specialists.allow_partial=true), or train the experts with the same target_modules"
        )
    givers = {module: state for state in reversed(list(experts.values())) for module in state.modules}
    order = sorted(givers, key=natural)
    return {name: _filled(state, givers, order) if name in missing else state for name, state in experts.items()}


def on_backbone(opened: Mapping[str, LoraState], model: PreTrainedModel, backbone: str) -> dict[str, LoraState]:
    """Adapters as ``open_experts`` gives them under the backbone's own names of its layers.

    Args:
        opened: the adapters.
        model: the backbone's skeleton.
        backbone: what it is called in error messages.

    Raises:
        AdapterError: a module is no linear layer of a decoder layer, or two are one; it is named.
    """
    named = under_own_names(opened, model)
    inside, linear = f"{decoder_layers(model)[0]}.", linear_layers(model)
    for name, state in named.items():
        for path in (module.removeprefix(PREFIX) for module in state.modules):
            if path not in linear:
                stacked = "; it stacks its experts, and PEFT does not load single ones onto it" * (".experts." in path)
                raise AdapterError(
                    f"expert {name!r} adapts {path}: backbone={backbone} has no such linear layer{stacked}"
                )
            if not path.startswith(inside):
                raise AdapterError(
                    f"expert {name!r} adapts {path}: only modules of decoder layers ({inside}…) are merged. Train it "
                    "with target_modules that name those alone, such as a regular expression that begins with "
                    f"{decoder_layers(model)[0]!r}"
                )
    return named


def check_fit(experts: Mapping[str, LoraState], model: PreTrainedModel, backbone: str) -> None:
    """Refuse adapters of another backbone: every module must have the shape of the layer that it is named after.

    Args:
        experts: as ``completed`` gives them, under the backbone's names.
        model: the backbone's skeleton.

    Raises:
        AdapterError: naming expert, module and shapes; or a part of a mixture that could not be loaded again.
    """
    linear = linear_layers(model)
    for name, state in experts.items():
        for module, entry in state.header.items():
            path = module.removeprefix(PREFIX)
            shape = tuple(linear[path].weight.shape)
            if shape != entry.shape:
                raise AdapterError(
                    f"expert {name!r} updates {path} by {entry.shape}, backbone={backbone} has {shape}: was it trained "
                    "on another model?"
                )
    check_mixtures(experts, model)


def _filled(state: LoraState, givers: Mapping[str, LoraState], order: list[str]) -> LoraState:
    header = {module: (state if module in state.modules else givers[module]).header[module] for module in order}

    def factors(module: str) -> LoraFactors:
        return state.modules[module] if module in state.modules else _zeros(header[module])

    finite = isinstance(state.modules, LazyModules) and state.modules.finite
    return replace(state, modules=LazyModules(order, factors, header, finite, state.reading))


def _zeros(entry: ModuleHeader) -> LoraFactors:
    a = torch.zeros(entry.factor_shape("A"), dtype=entry.a_dtype)
    b = torch.zeros(entry.factor_shape("B"), dtype=entry.b_dtype)
    return LoraFactors(a, b, entry.scale)


def _check_bases(experts: Mapping[str, LoraState], backbone: str, trusted: bool) -> None:
    for expert, state in experts.items():
        if state.base_model and not is_base_model(state.base_model, backbone):
            read_config(backbone, trusted)  # of a backbone that does not exist another message says so
            raise AdapterError(
                f"expert {expert!r} was trained on {state.base_model} (base_model_name_or_path), the backbone is "
                f"{backbone}: if that is the same model under another name, say allow_other_base=true (in sweeps "
                "specialists.allow_other_base=true)"
            )
