"""Control of ES-Merging: the magnitude of a parameter in place of its gradient score.

If the merge is as good as before, the probe's gradients are not needed.
"""

from __future__ import annotations

from esmerge.adapters.lora import LoraState, delta_name
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.es_family import SOURCE, measure, merge_by, with_signals
from esmerge.merging.ops.low_rank import wide
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import dense_delta


@MERGES.register(
    "es_magnitude",
    ConvexSettings,
    MergeInfo(
        title="ES, magnitude for gradient",
        source=f"control of {SOURCE}",
        kind=MethodKind.CONTROL,
        spaces=("factors", "delta"),
        granularities=("element", "joint"),
        convex=True,
    ),
)
def es_magnitude(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """ES-Merging with |A|, |B| or |ΔW| as the element-wise score."""
    scores = {name: _magnitudes(state, inputs.space) for name, state in inputs.experts.items()}
    return merge_by(inputs, settings, measure(with_signals(inputs, scores=scores), settings))


def _magnitudes(state: LoraState, space: str) -> dict[str, object]:
    if space == "factors":
        return {name: wide(tensor).abs() for name, tensor in state.tensors().items()}
    return {delta_name(module): dense_delta(factors).abs() for module, factors in state.modules.items()}
