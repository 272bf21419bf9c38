"""Adapters under the backbone's own names of its layers, whatever they were called where the adapters were trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from transformers import PreTrainedModel

from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import PREFIX, LazyModules, LoraState, some
from esmerge.adapters.peft_folder import natural
from esmerge.core.errors import AdapterError
from esmerge.model.linear_layers import SeparateExperts, routed_layers
from esmerge.model.module_names import ModuleNames


def under_own_names(experts: Mapping[str, LoraState], model: PreTrainedModel) -> dict[str, LoraState]:
    """The adapters with every module that the backbone has under another name renamed; the others stay as they are.

    Args:
        experts: as their files name them.
        model: the backbone, with or without weights, in the form that ``load_backbone`` gives it.

    Raises:
        AdapterError: two modules of an adapter are one in the backbone.
    """
    names = ModuleNames(model)
    return {name: _renamed(state, names, name) for name, state in experts.items()}


def check_mixtures(experts: Mapping[str, LoraState], model: PreTrainedModel) -> None:
    """Refuse adapters of a mixture's experts that PEFT could not load again: it stacks them, so all must be alike.

    Raises:
        AdapterError: an adapter lacks an expert's layer, or one has another rank or scale; it is named.
    """
    for path, mixture in routed_layers(model):
        for name, state in experts.items():
            _check_mixture(name, state, PREFIX + path, mixture)
            _check_beside(name, state, mixture)


def completing(modules: Collection[str], model: PreTrainedModel) -> list[str]:
    """What an adapter of these modules lacks to be loaded again: PEFT stacks the layers of a mixture's experts."""
    return [
        module
        for path, mixture in routed_layers(model)
        for module in _needed(modules, PREFIX + path, mixture)
        if module not in modules
    ]


def _renamed(state: LoraState, names: ModuleNames, name: str) -> LoraState:
    backbone_names = {
        module: PREFIX + (_find(names, module) or module.removeprefix(PREFIX)) for module in state.modules
    }
    changed = [module for module, backbone_name in backbone_names.items() if module != backbone_name]
    if not changed:
        return state
    sources = {backbone_name: module for module, backbone_name in backbone_names.items()}
    if len(sources) < len(backbone_names):
        doubled = sorted(set(backbone_names) - set(sources.values()))
        raise AdapterError(
            f"expert {name!r} adapts {some(doubled)} twice, under two names of one layer of the backbone: save it again"
        )
    order = sorted(sources, key=natural)
    header = {module: state.header[sources[module]] for module in order}
    finite = isinstance(state.modules, LazyModules) and state.modules.finite
    modules = LazyModules(order, lambda module: state.modules[sources[module]], header, finite, state.reading)
    note = f"{len(changed)} modules, such as {changed[0]}, which is {backbone_names[changed[0]]} in this backbone"
    return replace(state, modules=modules, notes={**state.notes, "renamed": note})


def _find(names: ModuleNames, module: str) -> str | None:
    return names.find(module.removeprefix(PREFIX))


def _needed(modules: Collection[str], path: str, mixture: SeparateExperts) -> list[str]:
    """Every expert's layer of each kind that some expert of a mixture has among the modules, gate and up together."""
    layers = [
        layer for layer in mixture.layer_names() if any(f"{path}.{i}.{layer}" in modules for i in range(len(mixture)))
    ]
    pair = (mixture.names.gate, mixture.names.up)
    if any(layer in pair for layer in layers):
        layers = list(dict.fromkeys([*pair, *layers]))
    return [f"{path}.{index}.{layer}" for index in range(len(mixture)) for layer in layers]


def _check_mixture(name: str, state: LoraState, path: str, mixture: SeparateExperts) -> None:
    needed, pair = _needed(state.modules, path, mixture), (mixture.names.gate, mixture.names.up)
    missing = [module for module in needed if module not in state.modules]
    if missing:
        raise AdapterError(
            f"expert {name!r} adapts a part of the mixture {path} only and lacks {some(missing)}: PEFT stacks a layer "
            f"of all experts, and {' with '.join(pair)}, so that it could not be loaded again; train all of them"
        )
    kinds = {_rank_and_scale(state.header[module]) for module in needed}
    if len(kinds) > 1:
        raise AdapterError(
            f"expert {name!r} has several ranks or scales within the mixture {path}, (rank, scale) {sorted(kinds)}: "
            "PEFT and transformers stack its experts, which takes one; train them without patterns"
        )


def _check_beside(name: str, state: LoraState, mixture: SeparateExperts) -> None:
    """PEFT takes every layer of these names for a part of the stacks, wherever it stands."""
    layers = [module for module in state.modules if module.rpartition(".")[2] in mixture.layer_names()]
    beside = [module for module in layers if ".experts." not in module]
    if beside:
        raise AdapterError(
            f"expert {name!r} adapts {some(beside)}, which are called as a mixture's layers are: PEFT would look for "
            "them in its stacks and leave them out; train without them"
        )


def _rank_and_scale(entry: ModuleHeader) -> tuple[int, float]:
    return entry.rank, entry.scale
