"""ES-Merging on a user's adapters, written from the paper's formulas with nothing of the project's: the yardstick."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D

Array = np.ndarray
Span = tuple[int, int]


def prompts(backbone: Path, probe: Path, names: list[str]) -> list[tuple[list[int], dict[str, Span]]]:
    """Ids of each sample and where each expert's text stands."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    samples = []
    for line in probe.read_text().splitlines():
        row, spans = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id], {}
        for name in names:
            row += ids(f"{name}: ")
            start = len(row)
            row += ids(json.loads(line)[name])
            spans[name] = (start, len(row))
            row += ids("\n")
        samples.append((row, spans))
    return samples


class Model:
    """A backbone under an expert whose factors, or dense updates, are leaves of a graph."""

    def __init__(self, backbone: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32).eval()
        self.model.requires_grad_(False)
        depth = self.model.config.get_text_config().num_hidden_layers
        named = [(name, m) for name, m in self.model.named_modules() if isinstance(m, torch.nn.ModuleList)]
        self.layers = next(m for name, m in named if len(m) == depth and "vision" not in name)

    def outputs(self, ids: list[int], weights: Mapping[str, Tensor]) -> list[Tensor]:
        """What each layer hands on, (T, d), with other weights in place of the model's own."""
        hidden_states: list[Tensor] = []

        def look(module: Any, args: Any, output: Any) -> None:
            hidden_states.append((output[0] if isinstance(output, tuple) else output)[0])

        handles = [layer.register_forward_hook(look) for layer in self.layers]
        torch.func.functional_call(self.model, self.shaped(weights), (torch.tensor([ids]),))
        for handle in handles:
            handle.remove()
        return hidden_states

    def weight(self, path: str) -> Tensor:
        """(out, in), whatever the model keeps it as: GPT-2 turned, a mixture in stacks with gate above up."""
        if ".experts." not in path:
            transposed = isinstance(self.model.get_submodule(path), Conv1D)
            parameter = self.model.get_parameter(f"{path}.weight")
            return parameter.T if transposed else parameter
        stack, number, name = path.rsplit(".", 2)
        if name == "w2":
            return self.model.get_parameter(f"{stack}.down_proj")[int(number)]
        return self.model.get_parameter(f"{stack}.gate_up_proj")[int(number)].chunk(2)[name == "w3"]

    def shaped(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights (out, in) by path, as the model's parameters."""
        parameters, stacks = {}, set()
        for key, weight in weights.items():
            path = key.removesuffix(".weight")
            if ".experts." in path:
                stacks.add(path.rsplit(".", 2)[0])
            else:
                parameters[key] = weight.T if isinstance(self.model.get_submodule(path), Conv1D) else weight
        for stack in stacks:
            count = range(len(self.model.get_parameter(f"{stack}.down_proj")))

            def expert_weight(number: int, name: str, stack: str = stack) -> Tensor:
                path = f"{stack}.{number}.{name}"
                return weights.get(f"{path}.weight", self.weight(path))

            parameters[f"{stack}.gate_up_proj"] = torch.stack(
                [torch.cat([expert_weight(i, "w1"), expert_weight(i, "w3")]) for i in count]
            )
            parameters[f"{stack}.down_proj"] = torch.stack([expert_weight(i, "w2") for i in count])
        return parameters


class Adapter:
    """Factors by module path, and alpha / r."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "adapter_config.json").read_text())
        self.scale = config["lora_alpha"] / config["r"]
        tensors = load_file(folder / "adapter_model.safetensors")
        strip = len("base_model.model.")
        self.a = {key[strip : -len(".lora_A.weight")]: t for key, t in tensors.items() if ".lora_A." in key}
        self.b = {key[strip : -len(".lora_B.weight")]: t for key, t in tensors.items() if ".lora_B." in key}


def layer_of(path: str) -> int:
    return int(next(part for part in path.split(".") if part.isdigit()))


def directions(features: int, count: int, seed: int = 0) -> Array:
    normal = torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def distance(x: Array, y: Array, units: Array) -> float:
    """Sliced Wasserstein-2 distance of two samples, (K, d), after joint standardisation."""
    pooled = np.concatenate([x, y])
    mean, std = pooled.mean(0), pooled.std(0)
    std[std == 0] = 1
    x, y = (x - mean) / std, (y - mean) / std
    return float(np.mean((np.sort(x @ units.T, axis=0) - np.sort(y @ units.T, axis=0)) ** 2) ** 0.5)


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(axis=0, keepdims=True))
    return powers / powers.sum(axis=0, keepdims=True)


def zscores(values: Array) -> Array:
    return (values - values.mean()) / values.std() if values.std() > 0 else np.zeros_like(values)


def responses(model: Model, samples: Any, weights: Mapping[str, Tensor], names: list[str]) -> dict[str, Array]:
    """Modality -> span means, (L, K, d)."""
    with torch.no_grad():
        outputs = [model.outputs(ids, weights) for ids, _ in samples]
    return {
        name: np.stack(
            [
                [layer[slice(*spans[name])].double().mean(0).numpy() for layer in layers]
                for layers, (_, spans) in zip(outputs, samples, strict=True)
            ],
            axis=1,
        )
        for name in names
    }


def alphas(model: Model, samples: Any, experts: Mapping[str, Adapter], projections: int, temperature: float) -> Array:
    """Layer-wise coefficients, (N, L)."""
    names = list(experts)
    backbone_responses = responses(model, samples, {}, names)
    gains = []
    for expert in names:
        expert_responses = responses(model, samples, dense(model, experts[expert]), names)
        total = 0.0
        for name in names:
            units = directions(backbone_responses[name].shape[-1], projections)
            d = np.array(
                [distance(x, y, units) for x, y in zip(backbone_responses[name], expert_responses[name], strict=True)]
            )
            total = total + zscores(np.diff(d, prepend=0))  # own and others alike, since a = 1
        gains.append(total)
    return softmax(np.stack(gains) / temperature)


def dense(model: Model, adapter: Adapter) -> dict[str, Tensor]:
    """The backbone's weights with an adapter's updates added."""
    return {
        f"{path}.weight": model.weight(path) + adapter.scale * adapter.b[path] @ adapter.a[path] for path in adapter.a
    }


def scores(model: Model, samples: Any, name: str, adapter: Adapter, space: str, batch: int) -> dict[str, Array]:
    """|gradient| of each layer's mean squared shift on the expert's own tokens, summed over batches."""
    totals: dict[str, Array] = {}
    for start in range(0, len(samples), batch):
        leaves = _leaves(adapter, space)
        weights = {f"{path}.weight": model.weight(path) + _update(leaves, adapter, path, space) for path in adapter.a}
        group = samples[start : start + batch]
        expert_states = [[h[slice(*spans[name])] for h in model.outputs(ids, weights)] for ids, spans in group]
        with torch.no_grad():
            backbone_states = [[h[slice(*spans[name])] for h in model.outputs(ids, {})] for ids, spans in group]
        for layer in range(len(model.layers)):
            gap = torch.cat([m[layer] for m in expert_states]) - torch.cat([s[layer] for s in backbone_states])
            layer_leaves = {key: leaf for key, leaf in leaves.items() if layer_of(key) == layer}
            slopes = torch.autograd.grad((gap**2).mean(), list(layer_leaves.values()), retain_graph=True)
            for key, slope in zip(layer_leaves, slopes, strict=True):
                totals[key] = totals.get(key, 0) + slope.abs().double().numpy()
    return totals


def _leaves(adapter: Adapter, space: str) -> dict[str, Tensor]:
    if space == "delta":
        return {f"{p}.delta": (adapter.scale * adapter.b[p] @ adapter.a[p]).requires_grad_() for p in adapter.a}
    factors = {"A": adapter.a, "B": adapter.b}
    return {f"{p}.lora_{half}.weight": factors[half][p].clone().requires_grad_() for p in adapter.a for half in "AB"}


def _update(leaves: Mapping[str, Tensor], adapter: Adapter, path: str, space: str) -> Tensor:
    if space == "delta":
        return leaves[f"{path}.delta"]
    return adapter.scale * leaves[f"{path}.lora_B.weight"] @ leaves[f"{path}.lora_A.weight"]


def merged_weights(
    backbone: Path, folders: Mapping[str, Path], probe: Path, granularity: str, space: str, projections: int
) -> tuple[Model, dict[str, Tensor], dict[str, list[Array]]]:
    """The backbone, its weights with the merge added, and every tensor's coefficients, one array per expert."""
    model, experts = Model(backbone), {name: Adapter(path) for name, path in folders.items()}
    names, samples = list(experts), prompts(backbone, probe, list(experts))
    alpha = alphas(model, samples, experts, projections, temperature=0.5)
    expert_scores = [scores(model, samples, name, experts[name], space, batch=2) for name in names]

    def shares(key: str) -> Array:
        level = alpha[:, layer_of(key)].reshape(-1, 1, 1)
        if granularity == "layer":
            return level
        beta = softmax(np.stack([zscores(tensors[key]) for tensors in expert_scores]) / 0.1)
        return beta if granularity == "element" else level * beta / (level * beta).sum(axis=0)

    weights, coefficients = {}, {}
    for path in experts[names[0]].a:
        if space == "delta":
            coefficients[f"{path}.delta"] = list(shares(f"{path}.delta"))
            updates = [(e.scale * e.b[path].double() @ e.a[path].double()).numpy() for e in experts.values()]
            update = sum(c * u for c, u in zip(coefficients[f"{path}.delta"], updates, strict=True))
        else:
            merged = {}
            for half in "AB":
                key = f"{path}.lora_{half}.weight"
                coefficients[key] = list(shares(key))
                factors = [getattr(e, half.lower())[path].double().numpy() for e in experts.values()]
                merged[half] = sum(c * f for c, f in zip(coefficients[key], factors, strict=True))
            update = experts[names[0]].scale * merged["B"] @ merged["A"]
        weights[f"{path}.weight"] = (model.weight(path).double() + torch.from_numpy(np.asarray(update))).float()
    return model, weights, coefficients
