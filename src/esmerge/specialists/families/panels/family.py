"""Specialists that each perceive one side of panels and read the other in words, on a backbone that reads records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.paths import user_path
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.language_model.family import load_backbone
from esmerge.specialists.families.panels.exams import grades
from esmerge.specialists.families.panels.lessons import Lesson
from esmerge.specialists.families.panels.loading import read_lesson
from esmerge.specialists.families.panels.planning import Planner
from esmerge.specialists.families.panels.reading import KEPT_AS, read
from esmerge.specialists.families.panels.settings import PanelSpecialistsSettings
from esmerge.specialists.families.panels.teacher import teach
from esmerge.specialists.families.panels.wording import Wording
from esmerge.specialists.soft_tokens.stages import Stages
from esmerge.specialists.specialists import PromptStyle, Specialists
from esmerge.specialists.stage_store import StageStore, shipped_store
from esmerge.storage.cache import digest


@SPECIALISTS.register("panels", PanelSpecialistsSettings)
def panels(settings: PanelSpecialistsSettings, context: Context) -> Specialists:
    """Backbone, encoders and specialists; what the cache lacks is trained now.

    Raises:
        ConfigError: no checkpoint or no root, or lessons that do not fit.
        InputError: a panel's table is missing or malformed.
    """
    store, targets = stage_store(settings, context), tuple(settings.targets)
    lessons = read_lessons(settings, context.seed)
    wordings = wordings_of([lesson for taught in lessons.values() for lesson in taught])
    checkpoint = load_backbone(settings.checkpoint, settings.dtype, context)
    backbone, lineage, reading = read(checkpoint, settings.reading, wordings, targets, store, context.seed)
    stages = Stages(
        *("panels", store, context, settings.encoder, settings.alignment, settings.lora, targets),
        kept_as=KEPT_AS,
        numbers=str(backbone.model.dtype),
    )
    taught = teach(settings, stages, Planner(settings, lessons, wordings, lineage, context.seed))
    recorded = {"reading": reading} | taught.recorded
    pool = pools(lessons)
    return Specialists(
        name="panels",
        backbone=backbone,
        adapters=taught.adapters,
        expert_modality={expert: lessons[expert][0].modality for expert in settings.experts},
        encoders=taught.encoders,
        language=settings.language,
        prompt_style=PromptStyle({modality: f"{modality.capitalize()}: " for modality in pool}, "\n"),
        pool=pool,
        taught=pool,
        fingerprint=digest([backbone.fingerprint, *taught.finished()]),
        finetuning=settings.finetuning,
        targets=targets,
        stages=store,
        exam=lambda _: grades(recorded, settings.reading.required),
        metadata=recorded,
    )


def stage_store(settings: PanelSpecialistsSettings, context: Context) -> StageStore:
    """Where stages are looked up: among shipped ones, if there are any, then in the cache."""
    if settings.weights is None:
        return StageStore(context.cache)
    return shipped_store(settings.weights, context.seed, settings.retrain, context.cache)


def read_lessons(settings: PanelSpecialistsSettings, seed: int) -> dict[str, list[Lesson]]:
    """Expert -> its lessons.

    Raises:
        ConfigError: no root, or an expert whose lessons are of several modalities.
        InputError: the root is no folder, or a table is missing or malformed.
    """
    if settings.root is None:
        benchmarks = dict.fromkeys(lesson.benchmark for lesson in settings.lessons.values())
        raise ConfigError(
            f"specialists.root is not set: give the folder that holds the tables of {', '.join(benchmarks)}, e.g. "
            "specialists.root=../data"
        )
    root = user_path(settings.root, "specialists.root")
    if not root.is_dir():
        raise InputError(f"specialists.root={settings.root} is not a folder")
    lessons: dict[str, list[Lesson]] = {expert: [] for expert in settings.experts}
    for name, lesson in settings.lessons.items():
        if lesson.expert in lessons:
            lessons[lesson.expert].append(read_lesson(name, lesson, str(root), settings.language, seed))
    for expert, taught in lessons.items():
        modalities = list(dict.fromkeys(lesson.modality for lesson in taught))
        if len(modalities) > 1:
            raise ConfigError(f"specialists.lessons teaches {expert!r} {' and '.join(modalities)}: expected one")
    perceived = [taught[0].modality for taught in lessons.values()]
    if twice := {modality for modality in perceived if perceived.count(modality) > 1}:
        raise ConfigError(f"specialists.lessons: two experts perceive {', '.join(sorted(twice))}; expected one each")
    return lessons


def wordings_of(lessons: Sequence[Lesson]) -> list[Wording]:
    """The words of every panel with all names that any of its lessons has, each panel once."""
    by_panel: dict[str, Wording] = {}
    for wording in (lesson.wording for lesson in lessons):
        before = by_panel.get(wording.benchmark)
        names = sorted({*wording.names, *(before.names if before else ())})
        by_panel[wording.benchmark] = replace(wording, names=tuple(names))
    return list(by_panel.values())


def pools(lessons: Mapping[str, Sequence[Lesson]]) -> dict[str, tuple[str, ...]]:
    """Modality -> its training entities, each once."""
    return {
        taught[0].modality: tuple(dict.fromkeys(value for lesson in taught for value in lesson.values()))
        for taught in lessons.values()
    }
