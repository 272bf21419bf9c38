"""The paper's probe: every prompt holds every modality, in the specialists' order (arXiv 2603.14405, probe input)."""

from __future__ import annotations

from esmerge.core.prompts import Prompt
from esmerge.probe.api import PROBES
from esmerge.probe.prompts import ProbeSettings, draw_entities, prompt
from esmerge.specialists.specialists import Specialists


@PROBES.register("mixed", ProbeSettings)
def mixed(settings: ProbeSettings, specialists: Specialists, seed: int) -> list[Prompt]:
    """K prompts of one entity per modality."""
    columns = [draw_entities(specialists, modality, settings.samples, seed) for modality in specialists.modalities]
    return [prompt(specialists, entities) for entities in zip(*columns, strict=True)]
