"""Control: LoRAs that know nothing, averaged in the experts' stead.

Every expert is replaced by a LoRA of normal random numbers with the same shapes, ranks and scales; the average of these
is what a merge has that is as large as the others and knows nothing. In factor space A and B have the Frobenius norms
of the expert's, module by module; in delta space A has, and B is such that the update has the norm of the expert's,
since that is what is merged there. A merge that is no better than this did not gain from its experts.

``method.scale`` is on the average: 0.4 · N of N experts is task arithmetic at its λ of 0.4.

The idea is from LoRAs found in the wild, where adaptive merges of random ones came out as good as of real ones (arXiv
2602.12323), and where of six merges only task arithmetic gained reliably (arXiv 2511.21437). It is not theirs in
detail: they initialise LoRAs at random, and here their norms are an expert's. The numbers depend on the seed, on the
expert's name and on the module.
"""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core import torch_rng
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.low_rank import square_norm
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine, equal_weights


@MERGES.register(
    "random",
    ConvexSettings,
    MergeInfo(
        title="Random LoRAs",
        source="control of all merges; idea of arXiv 2602.12323",
        kind=MethodKind.CONTROL,
        spaces=("factors", "delta"),
    ),
)
def random(inputs: MergeInput, settings: ConvexSettings) -> Merged:
    """The average of random LoRAs that are as large as the experts."""
    strangers = {name: stranger(inputs, name) for name in inputs.experts}
    weights = equal_weights(strangers, inputs.space, 1 / len(strangers))
    return Merged(combine(strangers, inputs.space, weights, settings))


def stranger(inputs: MergeInput, name: str) -> LoraState:
    """An adapter with an expert's header and norms, drawn module by module when it is read."""
    state = inputs.experts[name]

    def drawn(module: str) -> LoraFactors:
        factors = state.modules[module]
        a = _like(factors.a, inputs.seed, name, module, "A")
        b = _like(factors.b, inputs.seed, name, module, "B")
        if inputs.space == "delta":
            size = square_norm(LoraFactors(a, b, factors.scale)).sqrt()
            b = b * _ratio(square_norm(factors).sqrt(), size)
        return LoraFactors(a.to(factors.a.dtype), b.to(factors.b.dtype), factors.scale)

    return state.passed_through(drawn, finite=True)


def _like(factor: Tensor, seed: int, *names: str) -> Tensor:
    """Normal numbers with a tensor's shape and Frobenius norm, double."""
    numbers = torch_rng.normal(factor.shape, seed, "random", *names, device=factor.device).double()
    return numbers * _ratio(factor.double().norm(), numbers.norm())


def _ratio(norm: Tensor, drawn_norm: Tensor) -> Tensor:
    """``norm / drawn_norm``; 0 where what was drawn has no size, as the product with an A of zeros has none."""
    return torch.where(drawn_norm > 0, norm / drawn_norm, 0.0)
