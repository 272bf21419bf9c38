"""The mixed probe with the modalities of each prompt in a random order."""

from __future__ import annotations

from esmerge.core.prompts import Prompt
from esmerge.core.rng import generator
from esmerge.probe.api import PROBES
from esmerge.probe.prompts import ProbeSettings, draw_entities, prompt
from esmerge.specialists.specialists import Specialists


@PROBES.register("shuffled", ProbeSettings)
def shuffled(settings: ProbeSettings, specialists: Specialists, seed: int) -> list[Prompt]:
    """K prompts of one entity per modality, each prompt in an order of its own."""
    rng = generator(seed, "probe-order")
    columns = [draw_entities(specialists, modality, settings.samples, seed) for modality in specialists.modalities]
    orders = [rng.permutation(len(columns)) for _ in range(settings.samples)]
    return [prompt(specialists, [columns[c][row] for c in order]) for row, order in enumerate(orders)]
