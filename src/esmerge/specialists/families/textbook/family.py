"""The embedded specialist set: every stage trained on first use and kept by what it depends on."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.core.errors import ConfigError
from esmerge.model.attach import adapter_digest
from esmerge.model.backbone import Backbone
from esmerge.model.encoder import ModalityEncoder
from esmerge.model.prompt_encoder import Renderer
from esmerge.specialists.api import SPECIALISTS, Context, SpecialistsConfig
from esmerge.specialists.families.textbook import encoders, perception, reading
from esmerge.specialists.families.textbook.encoders import EncoderSettings, SoftTokenEncoder
from esmerge.specialists.families.textbook.perception import AlignmentSettings, LoraSettings
from esmerge.specialists.families.textbook.reading import ReadingSettings
from esmerge.specialists.specialists import FineTuning, PromptStyle, Specialists
from esmerge.storage.cache import code_digest, digest, tensors_digest
from esmerge.world.entities import MODALITIES, world_and_pools
from esmerge.world.language import HEADS
from esmerge.world.world import WorldSettings

ENCODED = ("molecule", "protein")  # a cell is read as text
INTERFERENCE = {"mild": {}, "strong": {"rate_factor": 2.0, "replay": 0.0}}
LEARNT_FROM = (  # modules whose code decides what is trained
    "esmerge.model.attach", "esmerge.model.loss", "esmerge.model.prompt_encoder", "esmerge.core.rng",
    "esmerge.model.training", "esmerge.specialists.families.textbook.reading",
    "esmerge.specialists.families.textbook.encoders",
    "esmerge.specialists.families.textbook.perception", "esmerge.world.cells", "esmerge.world.curriculum",
    "esmerge.world.entities", "esmerge.world.language", "esmerge.world.molecules",
    "esmerge.world.proteins", "esmerge.world.questions", "esmerge.world.world",
)  # fmt: skip


@dataclass(frozen=True)
class TextbookSettings(SpecialistsConfig):
    """Settings of the embedded specialists.

    Attributes:
        experts: which specialists there are, each named by its modality.
        shared_init: whether the adapters start from the same random A; independent ones mix more in factor space.
        interference: ``mild``, or ``strong``: twice the LoRA rate and no text-only replay, so that adapters disturb
            each other.
    """

    experts: list[str] = field(default_factory=lambda: list(MODALITIES))
    language: str = "textbook"
    shared_init: bool = True
    interference: str = "mild"
    world: WorldSettings = field(default_factory=WorldSettings)
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    finetuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self) -> None:
        if self.interference not in INTERFERENCE:
            raise ConfigError(f"specialists.interference={self.interference!r}: expected {' or '.join(INTERFERENCE)}")
        unknown = [name for name in self.experts if name not in MODALITIES]
        if unknown or len(self.experts) < 2 or len(set(self.experts)) < len(self.experts):
            raise ConfigError(
                f"specialists.experts={self.experts}: expected two or more of {', '.join(MODALITIES)}, each once"
            )
        if self.language != "textbook":
            raise ConfigError(f"specialists.language={self.language!r}: these specialists understand textbook only")

    def embedded_world(self) -> WorldSettings:
        """The world that the specialists have read of."""
        return self.world

    def specialist(self) -> LoraSettings:
        """LoRA training under the chosen interference."""
        changed: dict[str, Any] = dict(INTERFERENCE[self.interference])
        rate = self.lora.rate * changed.pop("rate_factor", 1.0)
        return replace(self.lora, rate=rate, **changed)


class _Builder:
    """Makes each stage, or finds it in the cache."""

    def __init__(self, settings: TextbookSettings, context: Context) -> None:
        self.settings, self.context = settings, context
        self.world, self.pools = world_and_pools(context.seed, settings.world)
        versions = (torch.__version__, transformers.__version__, peft.__version__)
        code = code_digest(sys.modules[name] for name in LEARNT_FROM)
        self.base = {"seed": context.seed, "world": asdict(settings.world), "versions": versions, "code": code}

    def backbone(self) -> Backbone:
        key = {**self.base, "reading": asdict(self.settings.reading)}
        scratch = self.context.cache.scratch("textbook-backbone", key)
        folder = self.context.cache.folder(
            "textbook-backbone",
            key,
            lambda out: reading.read_textbook(self.world, self.settings.reading, out, scratch),
        )
        model = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False).to(self.context.device)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return Backbone(model, tokenizer, str(folder.resolve()), tensors_digest(dict(model.named_parameters())))

    def encoder(self, modality: str, backbone: Backbone) -> SoftTokenEncoder:
        """Trunk first, projector then."""
        settings, cache = self.settings, self.context.cache
        trunk_key = {**self.base, "encoder": asdict(settings.encoder), "modality": modality}
        key = {**trunk_key, "alignment": asdict(settings.alignment), "backbone": backbone.fingerprint}

        def make_trunk(out: Path) -> None:
            encoder = self._blank(modality, backbone)
            pool = self.pools.train[modality]
            encoders.train_encoder(
                encoder, pool, settings.encoder, self.context.seed, cache.scratch("textbook-encoder", trunk_key)
            )
            encoders.save_encoder(encoder, out)

        def make(out: Path) -> None:
            trunk = cache.folder("textbook-encoder", trunk_key, make_trunk)
            encoder = encoders.load_encoder(self._blank(modality, backbone), trunk)
            renderer = Renderer(backbone, {modality: encoder})
            scratch = cache.scratch("textbook-alignment", key)
            perception.align(renderer, encoder, self.world, self.pools, settings.alignment, scratch)
            encoders.save_encoder(encoder, out)

        folder = cache.folder("textbook-alignment", key, make)
        return encoders.load_encoder(self._blank(modality, backbone), folder).to(self.context.device)

    def specialist(self, modality: str, renderer: Renderer) -> LoraState:
        settings, cache, backbone = self.settings.specialist(), self.context.cache, renderer.backbone
        own = 0 if self.settings.shared_init else 1000 * (MODALITIES.index(modality) + 1)
        init = self.context.seed + own
        key = {
            **self.base,
            "lora": asdict(settings),
            "init": init,
            "modality": modality,
            "backbone": backbone.fingerprint,
            "encoder": _encoder_digest(renderer.encoders.get(modality)),
        }
        scratch = cache.scratch("textbook-specialist", key)

        def make(out: Path) -> None:
            state = perception.specialise(renderer, modality, self.world, self.pools, settings, init, scratch)
            save_adapter(state, out / "adapter", backbone.name)

        return load_adapter(cache.folder("textbook-specialist", key, make) / "adapter", modality)

    def _blank(self, modality: str, backbone: Backbone) -> SoftTokenEncoder:
        hidden = backbone.model.config.hidden_size
        return encoders.make_encoder(modality, self.settings.encoder, hidden, self.context.seed)


@SPECIALISTS.register("textbook", TextbookSettings)
def textbook(settings: TextbookSettings, context: Context) -> Specialists:
    """Backbone, encoders and specialists of the embedded world; trained now where the cache lacks them."""
    builder = _Builder(settings, context)
    backbone = builder.backbone()
    perceived = {modality: builder.encoder(modality, backbone) for modality in ENCODED}
    renderer = Renderer(backbone, perceived)
    adapters = {name: builder.specialist(name, renderer) for name in settings.experts}
    parts: list[Any] = [backbone.fingerprint, *(_encoder_digest(encoder) for encoder in perceived.values())]
    parts += [[name, adapter_digest(state)] for name, state in adapters.items()]
    return Specialists(
        name="textbook",
        backbone=backbone,
        adapters=adapters,
        expert_modality={name: name for name in settings.experts},
        encoders=perceived,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{head} : " for modality, head in HEADS.items()}, " ; "),
        pool={modality: pool.values for modality, pool in builder.pools.train.items()},
        fingerprint=digest(parts),
        finetuning=settings.finetuning,
        world=settings.world,
        targets=perception.TARGETS,
        metadata={name: encoders.parts_accuracy(e, builder.pools.test[name]) for name, e in perceived.items()},
    )


def _encoder_digest(encoder: ModalityEncoder | None) -> str | None:
    return tensors_digest(encoder.state_dict()) if isinstance(encoder, SoftTokenEncoder) else None
