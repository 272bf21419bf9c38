"""Each modality alone: what the mixture adds is what is missing here."""

from __future__ import annotations

from esmerge.core.prompts import Prompt
from esmerge.probe.api import PROBES
from esmerge.probe.prompts import ProbeSettings, draw_entities, prompt
from esmerge.specialists.specialists import Specialists


@PROBES.register("single", ProbeSettings)
def single(settings: ProbeSettings, specialists: Specialists, seed: int) -> list[Prompt]:
    """K prompts for each modality, each of one entity."""
    columns = [draw_entities(specialists, modality, settings.samples, seed) for modality in specialists.modalities]
    return [prompt(specialists, [entity]) for column in columns for entity in column]
