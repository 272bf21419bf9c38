"""Gram matrices of what each adapted linear layer is given (RegMean's statistics, arXiv 2212.09849).

The paper writes sums over the data, ``Xᵀ X``; its authors' code divides them by the number of tokens, and so does this:
an expert whose prompts are longer does not count for more. Padding, which their code counts in, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.types import Statistics
from esmerge.calibration.watch import batches, check_reached, holding, prefill, tokens_of, watching
from esmerge.core.progress import progress
from esmerge.core.validation import check_choice

TOKENS = ("own", "all")


@dataclass(frozen=True)
class GramSettings:
    """Settings of the Gram matrices.

    Attributes:
        tokens: ``own`` counts the tokens of the expert's own modality, the data that it knows; ``all`` counts every
            token of the prompts that hold it.
    """

    tokens: str = "own"

    def __post_init__(self) -> None:
        check_choice("gram.tokens", self.tokens, TOKENS)


def stored_bytes(_: object, widths: Sequence[int], tokens: int) -> int:
    """Of one expert's matrices, however many tokens they count."""
    return sum(4 * width**2 for width in widths)


@STATISTICS.register("gram", GramSettings, StatisticInfo(stored_bytes=stored_bytes))
def gram(material: CalibrationData, settings: GramSettings) -> Statistics:
    """Expert -> module -> ``Xᵀ X / n``, (in_features, in_features): X are the inputs at n tokens under that expert.

    Raises:
        InputError: an expert's modality is in no prompt.
    """
    specialists = material.specialists
    prompts = {name: holding(material.prompts, specialists.expert_modality[name]) for name in specialists.adapters}
    total = sum(map(len, prompts.values()))
    with specialists.backbone.attached(specialists.adapters) as activate, progress("gram", total) as bar:
        grams = {}
        for name in specialists.adapters:
            activate(name)
            grams[name] = _gram_of(material, name, settings.tokens, bar)
    return grams


def _gram_of(material: CalibrationData, name: str, which: str, bar: tqdm) -> dict[str, Tensor]:
    """One expert's matrices; it is the active one."""
    specialists, sums, count = material.specialists, dict[str, Tensor](), 0
    for batch in batches(
        specialists, holding(material.prompts, specialists.expert_modality[name]), material.batch_size
    ):
        tokens = batch.mask.bool() if which == "all" else tokens_of(batch, specialists.expert_modality[name])

        def add(module: str, inputs: Tensor, tokens: Tensor = tokens) -> None:
            rows = inputs[tokens.flatten()].float()
            sums[module] = sums.get(module, torch.zeros((), device=rows.device)) + rows.T @ rows

        with watching(specialists.backbone.model, specialists.adapters[name].modules, add):
            prefill(specialists, batch)
        count += int(tokens.sum())
        bar.update(len(batch.spans))
    check_reached(sums, specialists.adapters[name].modules)
    return {module: (total / count).cpu() for module, total in sums.items()}
