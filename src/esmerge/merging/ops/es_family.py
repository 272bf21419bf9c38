"""What ES-Merging and its controls share: coefficients from a probe's signals, and the merge they weigh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from esmerge.coefficients.estimation import coefficients
from esmerge.coefficients.types import Coefficients, ESConfig, Signals
from esmerge.core.errors import ConfigError
from esmerge.merging.api import Merged, MergeInput
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine, tensor_shapes, tensor_weights

SOURCE = "arXiv 2603.14405"
EVERY = ("layer", "element", "joint")


def require_signals(inputs: MergeInput) -> tuple[Signals, ESConfig]:
    """The probe's signals and the granularity; raises ``ConfigError`` if either is missing or of other experts."""
    if inputs.signals is None or inputs.granularity is None:
        raise ConfigError("this merge computes its coefficients from a probe: give it signals and a granularity")
    if set(inputs.signals.experts) != set(inputs.experts):
        raise ConfigError(
            f"the probe measured {', '.join(inputs.signals.experts)}, but the merge is of {', '.join(inputs.experts)}"
        )
    return inputs.signals, inputs.granularity


def measure(inputs: MergeInput, settings: ConvexSettings) -> Coefficients:
    """The paper's coefficients of the experts."""
    signals, granularity = require_signals(inputs)
    first = next(iter(inputs.experts.values()))
    shapes = tensor_shapes(first, inputs.space)
    return coefficients(signals, granularity, shapes, inputs.seed, inputs.distances, inputs.device)


def merge_by(inputs: MergeInput, settings: ConvexSettings, weights: Coefficients) -> Merged:
    """Combine the experts with given coefficients."""
    state = combine(inputs.experts, inputs.space, tensor_weights(weights, inputs.experts, inputs.space), settings)
    return Merged(state, weights)


def with_signals(inputs: MergeInput, **changes: object) -> MergeInput:
    """The same input with some of its signals replaced; distances that were measured on others are dropped."""
    signals, _ = require_signals(inputs)
    distances = None if {"backbone", "responses"} & set(changes) else inputs.distances
    return replace(inputs, signals=replace(signals, **changes), distances=distances)  # type: ignore[arg-type]


def rearrange(weights: Coefficients, move: Callable[[str, dict[str, Tensor]], dict[str, Tensor]]) -> Coefficients:
    """Apply ``move(tensor name, expert -> weights)`` to whatever weighs the merge.

    Those are the element-wise coefficients, tensor by tensor, or the layer-wise ones (as tensor ``layer``) if there are
    no others.
    """
    if not weights.elements:
        return Coefficients(move("layer", dict(weights.layer)), {})
    elements: dict[str, dict[str, Tensor]] = {name: {} for name in weights.elements}
    for key in next(iter(weights.elements.values())):
        moved = move(key, {name: tensors[key] for name, tensors in weights.elements.items()})
        for name, tensor in moved.items():
            elements[name][key] = tensor
    return Coefficients(weights.layer, elements)
