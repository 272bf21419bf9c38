"""Merges with one fitted coefficient per expert and layer: ``ΔW*[l] = λ · Σ_i c[i, l] · ΔW_i``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from esmerge.adapters.lora import LoraState, delta_name, layer_count
from esmerge.core.errors import AdapterError
from esmerge.core.names import layer_of
from esmerge.merging.api import Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import combine_deltas


def merge_layerwise(inputs: MergeInput, measure: str, settings: DeltaSettings) -> Merged:
    """Weigh every layer of every expert by what ``measure`` found: expert -> ``layer`` -> (layers,).

    The coefficients need not be positive or sum to 1. The merged update keeps a low rank, the sum of the experts'.

    Raises:
        AdapterError: the coefficients are of another number of layers.
    """
    layer_weights = inputs.statistics[measure]
    weights = {
        name: _module_weights(measure, name, state, layer_weights[name]) for name, state in inputs.experts.items()
    }
    return Merged(combine_deltas(inputs.experts, weights, settings.scale, settings.rank))


def _module_weights(
    measure: str, name: str, state: LoraState, layer_weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    coefficients, depth = layer_weights["layer"].cpu(), layer_count(state)
    if coefficients.shape != (depth,):
        raise AdapterError(
            f"the measure {measure!r} gives expert {name!r} coefficients of shape {tuple(coefficients.shape)}, its "
            f"adapter reaches {depth} layers: measure with these experts"
        )
    return {delta_name(module): coefficients[layer_of(module)] for module in state.modules}
