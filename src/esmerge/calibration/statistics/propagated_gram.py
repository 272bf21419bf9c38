"""Gram matrices of what each expert's layer is given by the merged layers below it (RegMean++, arXiv 2508.03121).

RegMean's matrices come from each expert's own forward pass. Here decoder layers are merged in depth order: layer l
is given what the merged layers 0 to l − 1 make of the prompts; the modules within layer l are expert i's while
``G_i`` is measured. Once every expert's are, the layer is merged by RegMean's least squares, and the prompts pass it.

As in the authors' code a layer is merged at once, though the modules within it follow one another; matrices are means
over tokens. Padding is left out. What the layers below were merged with is part of what is measured: the factor on
off-diagonal entries stands here, and the merge uses the very same; λ is 1 in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esmerge.adapters.lora import LoraFactors
from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.passing import Passage, passages, updated
from esmerge.calibration.regression import through
from esmerge.calibration.statistics.gram import TOKENS, stored_bytes
from esmerge.calibration.types import Statistics
from esmerge.calibration.watch import check_reached, holding, tokens_of, watching
from esmerge.core.names import layer_of
from esmerge.core.progress import progress
from esmerge.core.validation import check_choice, shares
from esmerge.specialists.specialists import Specialists


@dataclass(frozen=True)
class PropagatedGramSettings:
    """Settings of the Gram matrices.

    Attributes:
        tokens: ``own`` counts the tokens of the expert's own modality, the data that it knows; ``all`` counts every
            token of the prompts that hold it.
        off_diagonal: factor on the off-diagonal entries, when layers below are merged and in the merge itself.
            Published: 0.95 for CLIP, 0.1 as the code's default for other models.
    """

    tokens: str = "own"
    off_diagonal: float = 0.95

    def __post_init__(self) -> None:
        check_choice("gram.tokens", self.tokens, TOKENS)
        shares(self, "method.gram", "off_diagonal")


@STATISTICS.register("propagated_gram", PropagatedGramSettings, StatisticInfo(stored_bytes=stored_bytes))
def propagated_gram(material: CalibrationData, settings: PropagatedGramSettings) -> Statistics:
    """Expert -> module -> ``Xᵀ X / n``, (in_features, in_features): X are the inputs at n tokens.

    Raises:
        InputError: an expert's modality is in no prompt, or a module is given no token.
    """
    specialists = material.specialists
    for modality in specialists.modalities:
        holding(material.prompts, modality)
    layers = specialists.backbone.layers()
    grams: dict[str, dict[str, Tensor]] = {name: {} for name in specialists.adapters}
    batches = passages(specialists, material.prompts, material.batch_size)
    with progress("propagated gram", len(layers)) as bar:
        for index in range(len(layers)):
            updates = layer_updates(specialists, index)
            for name, own_updates in updates.items():
                grams[name] |= _layer_grams(specialists, name, own_updates, batches, index, settings.tokens)
            _pass_on(specialists, merged_updates(updates, grams, settings.off_diagonal), batches, index)
            bar.update()
    return grams


def layer_updates(specialists: Specialists, index: int) -> dict[str, dict[str, LoraFactors]]:
    """Expert -> module -> factors, of the modules of one decoder layer."""
    return {
        name: {module: factors for module, factors in state.modules.items() if layer_of(module) == index}
        for name, state in specialists.adapters.items()
    }


def merged_updates(
    updates: Mapping[str, Mapping[str, LoraFactors]], grams: Mapping[str, Mapping[str, Tensor]], off_diagonal: float
) -> dict[str, list[LoraFactors]]:
    """Module -> the parts whose sum is RegMean's merge of the experts' updates."""
    merged = {}
    for module in next(iter(updates.values())):
        parts = [factors[module] for factors in updates.values()]
        projected = through([part.a for part in parts], [grams[name][module] for name in updates], off_diagonal)
        merged[module] = [LoraFactors(a, part.b, part.scale) for a, part in zip(projected, parts, strict=True)]
    return merged


def _layer_grams(
    specialists: Specialists,
    name: str,
    updates: Mapping[str, LoraFactors],
    batches: list[Passage],
    index: int,
    which: str,
) -> dict[str, Tensor]:
    """One expert's matrices of one layer, all prompts standing before it."""
    sums, count, modality = dict[str, Tensor](), 0, specialists.expert_modality[name]
    layers: nn.ModuleList = specialists.backbone.layers()
    if not updates:
        return sums
    with updated(specialists.backbone, {module: [factors] for module, factors in updates.items()}):
        for passage in batches:
            tokens = counted(passage, modality, which)
            if not tokens.any():
                continue

            def add(module: str, inputs: Tensor, tokens: Tensor = tokens) -> None:
                rows = inputs[tokens.flatten()].float()
                sums[module] = sums.get(module, torch.zeros((), device=rows.device)) + rows.T @ rows

            with watching(specialists.backbone.model, updates, add):
                passage.through(layers, index)
            count += int(tokens.sum())
    check_reached(sums, updates)
    return {module: (total / count).cpu() for module, total in sums.items()}


def counted(passage: Passage, modality: str, which: str) -> Tensor:
    """Positions that count for an expert of a modality, (B, T)."""
    tokens = tokens_of(passage.batch, modality)
    return tokens if which == "own" else passage.batch.mask.bool() & tokens.any(dim=1, keepdim=True)


def _pass_on(
    specialists: Specialists, merged: Mapping[str, list[LoraFactors]], batches: list[Passage], index: int
) -> None:
    with updated(specialists.backbone, merged):
        for passage in batches:
            passage.hidden = passage.through(specialists.backbone.layers(), index)
