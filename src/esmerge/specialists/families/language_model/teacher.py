"""Makes encoders and specialists from their plans, in one of two orders.

Aligned first: a projector is trained alone and frozen, then each expert's LoRA; experts of one modality share the
encoder. Together: each expert's projector is trained with its LoRA, which then carries what is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from esmerge.adapters.lora import LoraState
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.language_model.planning import Planner
from esmerge.specialists.families.language_model.settings import LanguageModelSettings
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder
from esmerge.specialists.soft_tokens.stages import Stages


@dataclass
class Taught:
    """Modality -> encoder, expert -> adapter, and what was recorded of each."""

    encoders: dict[str, SoftTokenEncoder] = field(default_factory=dict)
    adapters: dict[str, LoraState] = field(default_factory=dict)
    recorded: dict[str, object] = field(default_factory=dict)


class Teacher:
    """Teaches the experts of one set, in their order."""

    def __init__(self, settings: LanguageModelSettings, stages: Stages, planner: Planner) -> None:
        self.settings, self.stages, self.planner = settings, stages, planner
        modalities = [settings.modality_of(expert) for expert in settings.experts]
        self.choices = {name: choice for name, choice in settings.encoder_choices().items() if name in modalities}

    def teach(self) -> Taught:
        """What the store lacks is trained now."""
        taught = Taught()
        together = self.settings.lora.projector_rate > 0
        for modality in () if together else self.choices:
            self._align(modality, taught)
        for index, expert in enumerate(self.settings.experts):
            if together and self.settings.modality_of(expert) in self.choices:
                self._together(index, expert, taught)
            else:
                self._adapt(index, expert, taught)
        return taught

    def _align(self, modality: str, taught: Taught) -> None:
        plan = self.planner.encoder(modality, self.choices[modality])
        encoder, recorded = self.stages.encoder(plan, self.planner.backbone)
        taught.encoders[modality], taught.recorded[f"encoder {modality}"] = encoder, recorded

    def _adapt(self, index: int, expert: str, taught: Taught) -> None:
        prompt_encoder = PromptEncoder(self.planner.backbone, taught.encoders)
        plan = self.planner.specialist(index, expert, prompt_encoder)
        state, recorded = self.stages.specialist(plan, prompt_encoder)
        taught.adapters[expert], taught.recorded[f"specialist {expert}"] = state, recorded

    def _together(self, index: int, expert: str, taught: Taught) -> None:
        settings, backbone = self.settings, self.planner.backbone
        modality = settings.modality_of(expert)
        encoder_plan = self.planner.encoder(modality, self.choices[modality])
        plan = self.planner.specialist(index, expert, PromptEncoder(backbone, {}))
        encoder, state, recorded = self.stages.perceiver(
            encoder_plan, plan, backbone, settings.lora.projector_rate, self.planner.examination(expert)
        )
        taught.encoders[modality], taught.adapters[expert] = encoder, state
        taught.recorded[f"specialist {expert}"] = recorded
        if settings.lora.control:
            self._control(expert, modality, taught)

    def _control(self, expert: str, modality: str, taught: Taught) -> None:
        """A projector that is trained alone, examined on the bare backbone; nothing else uses it."""
        backbone, encoder_plan = self.planner.backbone, self.planner.encoder(modality, self.choices[modality])
        examine = self.planner.examine(expert)
        taught.recorded[f"projector alone {expert}"] = self.stages.projector_alone(encoder_plan, backbone, examine)
