"""What is timed: our merges, mergekit's functions on dense updates, and PEFT's merge of attached adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import peft
import torch
from benchmarks.speed.inputs import Adapters, make_input
from peft import LoraConfig, LoraModel
from torch import Tensor, nn

from esmerge.adapters.dense import DenseState
from esmerge.adapters.lora import LoraState
from esmerge.merging.api import MERGES
from esmerge.merging.ops.settings import EXACT
from esmerge.merging.ops.space import dense_delta
from esmerge.merging.run import merge
from esmerge.model.attach import PREFIX

try:
    import mergekit
    from mergekit.merge_methods.api import merge_tensors
except ImportError:
    mergekit = None

MERGES.names()  # imports every merge here, once, before any measuring process starts

Options = tuple[tuple[str, Any], ...]
"""Names and values, in a form that can be a key."""


@dataclass(frozen=True)
class Job:
    """One thing to be timed.

    Attributes:
        side: ``ours``, ``mergekit`` or ``peft``.
        method: our config name, mergekit's method or PEFT's combination type.
        adapters: what is merged.
        options: of ours, changes to the default settings; else parameters of the method.
        space: only of ours.
        granularity: only of ours, for merges that need signals.
    """

    side: str
    method: str
    adapters: Adapters
    options: Options = ()
    space: str = ""
    granularity: str | None = None

    def inputs(self) -> tuple[Any, ...]:
        """All that the memory of the prepared inputs depends on."""
        if self.side != "ours":
            return self.side, self.adapters
        info = MERGES.get(self.method).info
        return self.adapters, self.space, info.needs_signals, info.needs


def prepare(job: Job) -> Callable[[], None]:
    """Make the job's inputs; returns what is timed, which may be called again."""
    return {"ours": _ours, "mergekit": _mergekit, "peft": _peft}[job.side](job)


def settings_of(name: str, options: Options) -> Any:
    """A merge's published settings with changes."""
    return replace(MERGES.get(name).settings(), **dict(options))


def is_dense(name: str, space: str, granularity: str | None) -> bool:
    """Whether a merge's work grows with the backbone's weights, not with the adapters: found by merging tiny ones."""
    if {"gram", "propagated_gram"} & set(MERGES.get(name).info.needs):
        return True
    inputs = make_input(name, space, granularity, Adapters("tiny", 1, 2, 2, "float32"))
    return isinstance(merge(name, inputs, settings_of(name, ())).state, DenseState)


def mergekit_job(name: str, space: str, options: Options, adapters: Adapters) -> Job | None:
    """The same merge by mergekit, which has none of factors and none that truncates."""
    settings = settings_of(name, options)
    if mergekit is None or space != "delta" or settings.rank != EXACT or name not in MERGEKIT:
        return None
    method, parameters = MERGEKIT[name](settings)
    return Job("mergekit", method, adapters, tuple(parameters.items()))


def peft_job(name: str, space: str, options: Options, adapters: Adapters) -> Job | None:
    """The same merge by PEFT: exact sums in factors or side by side, and others by way of a dense SVD."""
    settings = settings_of(name, options)
    if space == "factors":
        return Job("peft", "linear", adapters) if name == "average" else None
    if settings.rank == EXACT:
        return Job("peft", "cat", adapters) if name in ("average", "task_arithmetic") else None
    if name not in PEFT_SVD:
        return None
    method, density = PEFT_SVD[name](settings)
    return Job("peft", method, adapters, (("density", density), ("svd_rank", settings.rank)))


MERGEKIT: Mapping[str, Callable[[Any], tuple[str, dict[str, Any]]]] = {
    "average": lambda s: ("linear", {"weight": 1.0}),
    "task_arithmetic": lambda s: ("task_arithmetic", {"weight": 1.0, "lambda": s.scale}),
    "ties": lambda s: ("ties", {"weight": 1.0, "density": s.keep, "lambda": s.scale}),
    "dare": lambda s: ("dare_linear", {"weight": 1.0, "density": 1 - s.drop, "lambda": s.scale}),
    "dare_ties": lambda s: ("dare_ties", {"weight": 1.0, "density": 1 - s.drop, "lambda": s.scale}),
    "breadcrumbs": lambda s: (
        "breadcrumbs",
        {"weight": 1.0, "density": 1 - s.beta - s.gamma, "gamma": s.gamma, "lambda": s.scale},
    ),
    "della": lambda s: (
        "della",
        {"weight": 1.0, "density": 1 - s.drop, "epsilon": s.epsilon, "lambda": s.scale},
    ),
    "slerp": lambda s: ("karcher", {"max_iter": s.max_iterations, "tol": s.tolerance}),
}
PEFT_SVD: Mapping[str, Callable[[Any], tuple[str, float | None]]] = {
    "average": lambda s: ("svd", None),
    "ties": lambda s: ("ties_svd", s.keep),
    "dare": lambda s: ("dare_linear_svd", 1 - s.drop),
    "dare_ties": lambda s: ("dare_ties_svd", 1 - s.drop),
}
PEFT_ALONE: Mapping[str, Options] = {  # PEFT's merges of factors that are not offered here
    "ties": (("density", 0.2),),
    "dare_linear": (("density", 0.5),),
    "dare_ties": (("density", 0.5),),
    "magnitude_prune": (("density", 0.2),),
}


def _ours(job: Job) -> Callable[[], None]:
    inputs = make_input(job.method, job.space, job.granularity, job.adapters)
    settings = settings_of(job.method, job.options)

    def work() -> None:
        state = merge(job.method, inputs, settings).state
        updates = state.materialize() if isinstance(state, LoraState) else state  # dense updates are dropped one by one
        for _ in updates.modules.values():
            pass

    return work


def _mergekit(job: Job) -> Callable[[], None]:
    experts, dtype = job.adapters.make(), getattr(torch, job.adapters.dtype)
    based = job.method not in ("linear", "karcher")  # these know no base model

    def work() -> None:
        for module, shape in job.adapters.modules().items():
            tensors = [dense_delta(state.modules[module]) for state in experts.values()]
            if based:
                tensors = [torch.zeros(shape), *tensors]
            parameters = dict(job.options)
            merge_tensors(tensors, job.method, parameters=parameters, base_index=0 if based else None, out_dtype=dtype)

    return work


def _peft(job: Job) -> Callable[[], None]:
    model = attached(job.adapters)
    names = list(model.peft_config)
    weights, method = [1 / len(names)] * len(names), cast(Any, job.method)

    def work() -> None:
        model.add_weighted_adapter(names, weights, "merged", combination_type=method, **dict(job.options))
        model.delete_adapter("merged")

    return work


def attached(adapters: Adapters) -> LoraModel:
    """The experts in PEFT, on linear layers whose weights are one zero, seen as a matrix."""
    root = nn.Module()
    for module, shape in adapters.modules().items():
        _place(root, module.removeprefix(PREFIX), _hollow(shape, getattr(torch, adapters.dtype)))
    experts, model = adapters.make(), None
    for name, state in experts.items():
        targets = [module.removeprefix(PREFIX) for module in state.modules]
        config = LoraConfig(r=adapters.rank, lora_alpha=2 * adapters.rank, target_modules=targets)
        if model is None:
            model = LoraModel(root, {name: config}, name, low_cpu_mem_usage=True)
        else:
            model.peft_config[name] = config
            model.inject_adapter(root, name, low_cpu_mem_usage=True)
        for module, factors in state.modules.items():
            layer: Any = root.get_submodule(module.removeprefix(PREFIX))
            layer.lora_A[name].weight = nn.Parameter(factors.a, requires_grad=False)
            layer.lora_B[name].weight = nn.Parameter(factors.b, requires_grad=False)
    assert model is not None
    return model


def _hollow(shape: tuple[int, int], dtype: torch.dtype) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(shape[1], shape[0], bias=False)
    zero: Tensor = torch.zeros(1, 1, dtype=dtype).expand(shape)
    layer.weight = nn.Parameter(zero, requires_grad=False)
    return layer


def _place(root: nn.Module, path: str, layer: nn.Module) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, layer)


def versions() -> dict[str, str]:
    """Versions of what is compared."""
    packages = {"torch": torch.__version__, "peft": peft.__version__}
    if mergekit is not None:
        from importlib.metadata import version

        packages["mergekit"] = version("mergekit")
    return packages
