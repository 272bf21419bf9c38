"""The embedded specialist set: every stage is shipped, or trained on first use and kept by what it depends on."""

from __future__ import annotations

from dataclasses import asdict

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from esmerge.model.attach import adapter_digest
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.textbook.exam import exam
from esmerge.specialists.families.textbook.perception import (
    kind_questions,
    parts_encoder,
    parts_task,
    perceived_scenes,
)
from esmerge.specialists.families.textbook.reading import TARGETS, read_textbook
from esmerge.specialists.families.textbook.settings import TextbookSettings
from esmerge.specialists.soft_tokens.encoder import encoder_digest
from esmerge.specialists.soft_tokens.stages import AdapterPlan, EncoderPlan, Stages
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.specialists.stage_store import StageStore, shipped_store
from esmerge.storage.cache import digest
from esmerge.storage.code import closure_digest
from esmerge.storage.tensor_digest import tensors_digest
from esmerge.world.entities import MODALITIES, Pools, world_and_pools
from esmerge.world.language import HEADS
from esmerge.world.world import World

BENCHMARK_SIZES = ("questions", "train_questions")


@SPECIALISTS.register("textbook", TextbookSettings)
def textbook(settings: TextbookSettings, context: Context) -> Specialists:
    """Backbone, encoders and specialists of the embedded world.

    Trained now where they are neither shipped nor in the cache.

    Raises:
        StoreError: a shipped file was changed.
    """
    world, pools = world_and_pools(context.seed, settings.world)
    store = shipped_store("textbook", context.seed, settings.retrain, context.cache)
    backbone = read_backbone(settings, world, context, store)
    lora = settings.specialist()
    stages = Stages("textbook", store, context, settings.encoder, settings.alignment, lora, TARGETS)
    hidden = backbone.model.config.hidden_size
    plans = encoder_plans(settings, world, pools, hidden)
    encoders = {modality: stages.encoder(plan, backbone) for modality, plan in plans.items()}
    perceived = {modality: encoder for modality, (encoder, _) in encoders.items()}
    prompt_encoder = PromptEncoder(backbone, perceived)
    trained = {
        name: stages.specialist(adapter_plan(settings, name, world, pools), prompt_encoder) for name in settings.experts
    }
    adapters = {name: state for name, (state, _) in trained.items()}
    taught = {modality: pool.values for modality, pool in pools.train.items()}
    for encoder in perceived.values():
        encoder.forget()
    parts: list[object] = [backbone.fingerprint, *map(encoder_digest, perceived.values())]
    parts += [[name, adapter_digest(state)] for name, state in adapters.items()]
    return Specialists(
        name="textbook",
        backbone=backbone,
        adapters=adapters,
        expert_modality={name: name for name in settings.experts},
        encoders=perceived,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{head} : " for modality, head in HEADS.items()}, " ; "),
        pool=taught,
        taught=taught,
        fingerprint=digest(parts),
        finetuning=settings.finetuning,
        world=settings.world,
        targets=TARGETS,
        stages=store,
        exam=lambda specialists: exam(specialists, world, pools),
        metadata={f"encoder {modality}": recorded for modality, (_, recorded) in encoders.items()}
        | {f"specialist {name}": recorded for name, (_, recorded) in trained.items()},
    )


def read_backbone(settings: TextbookSettings, world: World, context: Context, store: StageStore) -> Backbone:
    """The frozen Llama that has read the textbook; trained now if the store lacks it."""
    decided = {"seed": context.seed, "world": taught_world(settings), "reading": asdict(settings.reading)}
    code = {"versions": (torch.__version__, transformers.__version__), "code": closure_digest(read_textbook)}
    folder = store.folder(
        *("textbook-backbone", "backbone", decided, code),
        lambda out, scratch: read_textbook(world, settings.reading, out, scratch),
    )
    model = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False).to(context.device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return Backbone(model, tokenizer, str(folder.resolve()), tensors_digest(dict(model.named_parameters())))


def encoder_plans(settings: TextbookSettings, world: World, pools: Pools, hidden: int) -> dict[str, EncoderPlan]:
    """Modality -> how its encoder is made."""
    plans = {}
    for modality, choice in settings.encoder_choices().items():
        train, test, features = pools.train[modality], pools.test[modality], choice.features()
        plans[modality] = EncoderPlan(
            modality,
            choice,
            parts_encoder(modality, features, settings.encoder, hidden, world.seed),
            parts_task(train, test, settings.encoder, world.seed),
            kind_questions(world, pools, modality, settings.alignment),
            {"world": taught_world(settings)},
        )
    return plans


def adapter_plan(settings: TextbookSettings, expert: str, world: World, pools: Pools) -> AdapterPlan:
    """How a specialist is made; without a shared initial A, it has one that does not depend on who else is there."""
    offset = 0 if settings.shared_init else 1000 * (MODALITIES.index(expert) + 1)
    scenes = perceived_scenes(world, pools, expert, settings.specialist())
    return AdapterPlan(expert, expert, scenes, world.seed + offset, {"world": taught_world(settings)})


def taught_world(settings: TextbookSettings) -> dict[str, object]:
    """The settings of the world that decide what is learnt; how many questions a benchmark asks does not."""
    return {name: value for name, value in asdict(settings.world).items() if name not in BENCHMARK_SIZES}
