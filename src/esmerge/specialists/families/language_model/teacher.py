"""Makes encoders and specialists from their plans: a projector is aligned and frozen, then a LoRA trained for each."""

from __future__ import annotations

from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.language_model.planning import Planner
from esmerge.specialists.families.language_model.settings import LanguageModelSettings
from esmerge.specialists.soft_tokens.stages import Stages
from esmerge.specialists.soft_tokens.trained import Trained


def teach(settings: LanguageModelSettings, stages: Stages, planner: Planner) -> Trained:
    """What the store lacks is trained now; experts of one modality share the encoder."""
    taught = Trained()
    modalities = {settings.modality_of(expert) for expert in settings.experts}
    for modality, choice in settings.encoder_choices().items():
        if modality in modalities:
            encoder, recorded = stages.encoder(planner.encoder(modality, choice), planner.backbone)
            taught.encoders[modality], taught.recorded[f"encoder {modality}"] = encoder, recorded
    prompt_encoder = PromptEncoder(planner.backbone, taught.encoders)
    for index, expert in enumerate(settings.experts):
        state, recorded = stages.specialist(planner.specialist(index, expert, prompt_encoder), prompt_encoder)
        taught.adapters[expert], taught.recorded[f"specialist {expert}"] = state, recorded
    return taught
