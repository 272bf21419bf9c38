"""The stages of a set of specialists, each trained on first use, kept by what it depends on, and resumed if stopped.

A family says what is taught (``EncoderPlan``, ``AdapterPlan``); the stages are the same for all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from esmerge.adapters.lora import LoraState
from esmerge.adapters.number_format import in_format, rounded
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.api import Context
from esmerge.specialists.soft_tokens.api import EncoderChoice
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, encoder_digest, load_encoder, save_encoder
from esmerge.specialists.soft_tokens.settings import AlignmentSettings, EncoderSettings, LoraSettings
from esmerge.specialists.soft_tokens.training import (
    Batches,
    Loss,
    TrunkTask,
    Untrained,
    align,
    train_adapter,
    train_trunk,
)
from esmerge.specialists.stage_store import StageStore
from esmerge.storage.code import closure_digest

METADATA = "metadata.json"
ADAPTER = "adapter"
TRUNK = "trunk.safetensors"


@dataclass(frozen=True)
class EncoderPlan:
    """How the encoder of a modality is made.

    Attributes:
        modality: what it perceives.
        choice: the registered encoder.
        untrained: draws the encoder's weights, and those of the heads that train its trunk.
        task: what the trunk is taught.
        batches: what the projector is aligned on.
        data: all that decides the task and the batches beside the seed; part of every key.
    """

    modality: str
    choice: EncoderChoice
    untrained: Untrained
    task: TrunkTask
    batches: Batches
    data: Mapping[str, object]


@dataclass(frozen=True)
class AdapterPlan:
    """How a specialist is made.

    Attributes:
        expert: its name.
        modality: what it perceives.
        batches: what it is taught.
        init_seed: of its initial A.
        data: all that decides the batches and the evaluation beside the seed; part of its key.
        evaluate: adapter -> figures worth recording.
        loss: what is minimised; None for that of the batches' answers.
    """

    expert: str
    modality: str
    batches: Batches
    init_seed: int
    data: Mapping[str, object]
    evaluate: Callable[[LoraState], Mapping[str, object]] = lambda adapter: {}
    loss: Loss | None = None


@dataclass(frozen=True)
class Stages:
    """Makes each stage of a family, or finds it in the store.

    Attributes:
        family: first word of the stages' names in the cache: ``<family>-encoder``, ``-alignment``, ``-specialist``.
        store: where stages are looked up and kept.
        encoder_settings, alignment_settings, lora_settings: of the three stages.
        targets: linear modules that an adapter adapts.
        kept_as: number format of adapters and encoders on disk, to which they are rounded before they are examined; in
            memory they are float32.
        numbers: number format of the backbone: part of the cache's keys, not of what a shipped stage must match.
    """

    family: str
    store: StageStore
    context: Context
    encoder_settings: EncoderSettings
    alignment_settings: AlignmentSettings
    lora_settings: LoraSettings
    targets: Sequence[str]
    kept_as: torch.dtype = torch.float32
    numbers: str = ""

    def encoder(self, plan: EncoderPlan, backbone: Backbone) -> tuple[SoftTokenEncoder, dict[str, object]]:
        """The trained encoder, frozen, and what its training recorded; the trunk is trained first, the projector then.

        Raises:
            InputError: an entity that is taught is invalid.
        """
        context, kind = self.context, f"{self.family}-alignment"
        settings, code = self._alignment_settings(plan, backbone), self._alignment_code(plan)

        def make(out: Path, scratch: Path) -> None:
            encoder, recorded = self._trunk(plan)
            encoder.eval().requires_grad_(False).to(context.device)
            prompt_encoder, start = PromptEncoder(backbone, {plan.modality: encoder}), time.perf_counter()
            loss = align(prompt_encoder, encoder, plan.batches, self.alignment_settings, scratch)
            seconds = time.perf_counter() - start
            save_encoder(encoder, out, self.kept_as)
            _write_metadata(out, {**recorded, "alignment_loss": loss, "alignment_seconds": seconds})

        folder = self.store.folder(kind, plan.modality, settings, code, make)
        return load_encoder(plan.untrained()[0], folder).to(context.device), _read_metadata(folder)

    def specialist(self, plan: AdapterPlan, prompt_encoder: PromptEncoder) -> tuple[LoraState, dict[str, object]]:
        """The trained adapter, and what its training recorded.

        Args:
            prompt_encoder: of the backbone, with the trained encoders of this family.
        """
        kind, backbone = f"{self.family}-specialist", prompt_encoder.backbone
        encoder = prompt_encoder.encoders.get(plan.modality)
        settings = {
            **self._adapter_settings(plan, backbone),
            "encoder": encoder_digest(encoder) if isinstance(encoder, SoftTokenEncoder) else None,
        }
        code = {"versions": self._versions(), "code": closure_digest(train_adapter, *_taught(plan), plan.evaluate)}

        def make(out: Path, scratch: Path) -> None:
            start = time.perf_counter()
            state, loss = train_adapter(
                *(prompt_encoder, plan.expert, plan.batches, self.lora_settings, self.targets, plan.init_seed, scratch),
                loss=plan.loss,
            )
            state = rounded(state, self.kept_as)
            recorded = {"loss": loss, "training_seconds": time.perf_counter() - start, **plan.evaluate(state)}
            save_adapter(in_format(state, self.kept_as), out / ADAPTER, backbone.name)
            _write_metadata(out, recorded)

        folder = self.store.folder(kind, plan.expert, settings, code, make)
        state = in_format(load_adapter(folder / ADAPTER, plan.expert), torch.float32)
        return replace(state, base_model=backbone.name), _read_metadata(folder)

    def perceiver(
        self,
        encoder_plan: EncoderPlan,
        plan: AdapterPlan,
        backbone: Backbone,
        projector_rate: float,
        evaluate: Callable[[PromptEncoder, LoraState], Mapping[str, object]],
    ) -> tuple[SoftTokenEncoder, LoraState, dict[str, object]]:
        """An expert whose projector is trained together with its adapter, on a trunk that was trained before.

        Args:
            plan: its own ``evaluate`` is not asked: it has no encoder before this stage.
            projector_rate: the projector's peak learning rate; 0 leaves it as it is drawn.
            evaluate: (prompt encoder with the trained encoder, adapter) -> figures worth recording.

        Returns:
            The frozen encoder, the adapter, and what training recorded.
        """
        context, kind = self.context, f"{self.family}-perceiver"
        settings = {
            **self._trunk_settings(encoder_plan),
            **self._adapter_settings(plan, backbone),
            "data": [encoder_plan.data, plan.data],
            "projector_rate": projector_rate,
        }
        code = {**self._trunk_code(encoder_plan), "lora_code": closure_digest(train_adapter, *_taught(plan), evaluate)}

        def make(out: Path, scratch: Path) -> None:
            encoder, recorded = self._trunk(encoder_plan)
            encoder.eval().requires_grad_(False).to(context.device)
            prompt_encoder, start = PromptEncoder(backbone, {plan.modality: encoder}), time.perf_counter()
            state, loss = train_adapter(
                *(prompt_encoder, plan.expert, plan.batches, self.lora_settings, self.targets, plan.init_seed, scratch),
                projector=(encoder.projector, projector_rate) if projector_rate else None,
                loss=plan.loss,
            )
            recorded |= {"loss": loss, "training_seconds": time.perf_counter() - start}
            save_encoder(encoder, out, self.kept_as)
            load_encoder(encoder, out)
            encoder.forget()
            state = rounded(state, self.kept_as)
            recorded |= evaluate(prompt_encoder, state)
            save_adapter(in_format(state, self.kept_as), out / ADAPTER, backbone.name)
            _write_metadata(out, recorded)

        folder = self.store.folder(kind, plan.expert, settings, code, make)
        state = in_format(load_adapter(folder / ADAPTER, plan.expert), torch.float32)
        state = replace(state, base_model=backbone.name)
        encoder = load_encoder(encoder_plan.untrained()[0], folder).to(context.device)
        return encoder, state, _read_metadata(folder)

    def projector_alone(
        self,
        plan: EncoderPlan,
        backbone: Backbone,
        evaluate: Callable[[PromptEncoder, None], Mapping[str, object]],
    ) -> dict[str, object]:
        """What the bare backbone answers behind a projector that was trained alone: a control, which nothing uses."""
        code = {**self._alignment_code(plan), "examined": closure_digest(evaluate)}

        def make(out: Path, scratch: Path) -> None:
            encoder, recorded = self.encoder(plan, backbone)
            _write_metadata(out, {**recorded, **evaluate(PromptEncoder(backbone, {plan.modality: encoder}), None)})

        settings = self._alignment_settings(plan, backbone)
        return _read_metadata(self.store.folder(f"{self.family}-control", plan.modality, settings, code, make))

    def _alignment_settings(self, plan: EncoderPlan, backbone: Backbone) -> dict[str, object]:
        aligned = {"alignment": asdict(self.alignment_settings), "backbone": backbone.fingerprint}
        return {**self._trunk_settings(plan), **aligned}

    def _alignment_code(self, plan: EncoderPlan) -> dict[str, object]:
        return {**self._trunk_code(plan), "alignment_code": closure_digest(align, plan.batches)}

    def _adapter_settings(self, plan: AdapterPlan, backbone: Backbone) -> dict[str, object]:
        return {
            "seed": self.context.seed,
            "expert": plan.expert,
            "modality": plan.modality,
            "data": plan.data,
            "lora": asdict(self.lora_settings),
            "targets": list(self.targets),
            "init": plan.init_seed,
            "backbone": backbone.fingerprint,
        }

    def _trunk(self, plan: EncoderPlan) -> tuple[SoftTokenEncoder, dict[str, object]]:
        """The encoder with a trained trunk and an untrained projector, and what the trunk's training recorded."""
        kind, settings, code = f"{self.family}-encoder", self._trunk_settings(plan), self._trunk_code(plan)

        def make(out: Path, scratch: Path) -> None:
            (encoder, heads), start = plan.untrained(), time.perf_counter()
            loss = train_trunk(encoder, heads, plan.task, self.encoder_settings, self.context.seed, scratch)
            recorded = {"encoder_loss": loss, "encoder_seconds": time.perf_counter() - start}
            save_file(encoder.trunk.state_dict(), out / TRUNK)
            _write_metadata(out, {**recorded, **plan.task.evaluate(encoder, heads)})

        folder = self.store.folder(kind, plan.modality, settings, code, make)
        encoder, _ = plan.untrained()
        encoder.trunk.load_state_dict(load_file(folder / TRUNK))
        return encoder, _read_metadata(folder)

    def _trunk_settings(self, plan: EncoderPlan) -> dict[str, object]:
        return {
            "seed": self.context.seed,
            "modality": plan.modality,
            "data": plan.data,
            "kind": plan.choice.key(),
            "encoder": asdict(self.encoder_settings),
        }

    def _versions(self) -> dict[str, str]:
        versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
        return versions | ({"numbers": self.numbers} if self.numbers else {})

    def _trunk_code(self, plan: EncoderPlan) -> dict[str, object]:
        taught = (plan.untrained, plan.task.loss, plan.task.evaluate, plan.task.finish)
        return {"versions": self._versions(), "code": closure_digest(train_trunk, plan.choice.function, *taught)}


def _taught(plan: AdapterPlan) -> list[Callable[..., object]]:
    """The functions that decide what an adapter is taught."""
    return [plan.batches] if plan.loss is None else [plan.batches, plan.loss]


def _write_metadata(folder: Path, metadata: Mapping[str, object]) -> None:
    (folder / METADATA).write_text(json.dumps(metadata, indent=1), encoding="utf-8")


def _read_metadata(folder: Path) -> dict[str, object]:
    metadata: dict[str, object] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    return metadata
