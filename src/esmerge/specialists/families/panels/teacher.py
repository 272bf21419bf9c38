"""Makes encoders and specialists from their plans, expert by expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from esmerge.adapters.lora import LoraState
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.panels.lengths import check_texts
from esmerge.specialists.families.panels.planning import Planner
from esmerge.specialists.families.panels.settings import PanelSpecialistsSettings
from esmerge.specialists.soft_tokens.api import EncoderChoice
from esmerge.specialists.soft_tokens.stages import Stages
from esmerge.specialists.soft_tokens.trained import Trained


def teach(settings: PanelSpecialistsSettings, stages: Stages, planner: Planner) -> Trained:
    """Every expert's encoder and adapter; what the store lacks is trained now.

    Raises:
        InputError: a modality without an encoder has texts that the backbone cannot read.
    """
    taught, choices = Trained(), settings.encoder_choices()
    for expert in settings.experts:
        if planner.lessons[expert][0].modality not in choices:
            check_texts(planner.lessons[expert], planner.backbone, settings.lora.questions)
    for index, expert in enumerate(settings.experts):
        steps = settings.steps.get(expert, settings.lora.steps)
        stages = replace(stages, lora_settings=replace(settings.lora, steps=steps))
        choice = choices.get(planner.lessons[expert][0].modality)
        if choice is None:
            _read_as_text(index, expert, stages, planner, taught)
        else:
            _perceive(index, expert, choice, stages, planner, taught)
            if settings.control:
                _control(expert, choice, stages, planner, taught)
    return taught


def _read_as_text(index: int, expert: str, stages: Stages, planner: Planner, taught: Trained) -> None:
    prompt_encoder = PromptEncoder(planner.backbone, {})
    plan = planner.specialist(index, expert, lambda state: _compare(expert, planner, prompt_encoder, state))
    state, recorded = stages.specialist(plan, prompt_encoder)
    taught.adapters[expert], taught.recorded[f"specialist {expert}"] = state, recorded


def _perceive(
    index: int, expert: str, choice: EncoderChoice, stages: Stages, planner: Planner, taught: Trained
) -> None:
    encoder, state, recorded = stages.perceiver(
        planner.encoder(expert, choice),
        planner.specialist(index, expert),
        planner.backbone,
        planner.settings.projector_rates.get(expert, 0.0),
        lambda prompt_encoder, adapter: _compare(expert, planner, prompt_encoder, adapter),
    )
    taught.encoders[encoder.modality], taught.adapters[expert] = encoder, state
    taught.recorded[f"specialist {expert}"] = recorded


def _control(expert: str, choice: EncoderChoice, stages: Stages, planner: Planner, taught: Trained) -> None:
    """A projector that is trained alone, examined on the bare backbone; nothing else uses it."""
    taught.recorded[f"projector alone {expert}"] = stages.projector_alone(
        planner.encoder(expert, choice),
        planner.backbone,
        lambda prompt_encoder, _: {"backbone": planner.examine(expert, prompt_encoder, None)},
    )


def _compare(expert: str, planner: Planner, prompt_encoder: PromptEncoder, adapter: LoraState) -> Mapping[str, object]:
    """An adapter and the bare backbone behind the same encoders."""
    return {
        "backbone": planner.examine(expert, prompt_encoder, None),
        "specialist": planner.examine(expert, prompt_encoder, adapter),
    }
