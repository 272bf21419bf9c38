"""What is taught to each encoder and specialist on a language model, and how each is examined."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.paths import user_path
from esmerge.core.prompts import Example
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.reach import check_reach, without_perceived
from esmerge.specialists.families.language_model.exams import labels_exam
from esmerge.specialists.families.language_model.lessons import Lesson, as_text, read_lesson
from esmerge.specialists.families.language_model.settings import LanguageModelSettings
from esmerge.specialists.families.language_model.teaching import (
    answers_encoder,
    answers_task,
    questions,
)
from esmerge.specialists.soft_tokens.api import EncoderChoice
from esmerge.specialists.soft_tokens.stages import AdapterPlan, EncoderPlan
from esmerge.storage.cache import digest


class Planner:
    """Says what is taught to each encoder and specialist.

    Args:
        lessons: of all experts.
        backbone: that all share.
    """

    def __init__(
        self, settings: LanguageModelSettings, lessons: Sequence[Lesson], backbone: Backbone, seed: int
    ) -> None:
        self.settings, self.lessons, self.backbone, self.seed = settings, lessons, backbone, seed

    def encoder(self, modality: str, choice: EncoderChoice) -> EncoderPlan:
        """The trunk learns the answers of all lessons of the modality, the projector the questions."""
        settings, seed = self.settings, self.seed
        lessons = [lesson for lesson in self.lessons if lesson.modality == modality]
        return EncoderPlan(
            modality,
            choice,
            answers_encoder(modality, choice.features(), lessons, settings.encoder, self.backbone.embeddings(), seed),
            answers_task(lessons, settings.encoder, seed),
            questions(lessons, settings.alignment.batch, seed, f"alignment-{modality}"),
            {"lessons": digest([asdict(lesson) for lesson in lessons])},
        )

    def specialist(self, index: int, expert: str, prompt_encoder: PromptEncoder) -> AdapterPlan:
        """The expert learns the questions of its own lessons, and is examined on held-out entities."""
        settings, seed, lessons = self.settings, self.seed, self.lessons_of(expert)
        return AdapterPlan(
            expert,
            settings.modality_of(expert),
            questions(lessons, settings.lora.batch, seed, f"lora-{expert}"),
            seed if settings.shared_init else seed + 1000 * (index + 1),
            {"lessons": digest([asdict(lesson) for lesson in lessons]), "exam": settings.exam},
            partial(self.examination(expert), prompt_encoder),
        )

    def lessons_of(self, expert: str) -> list[Lesson]:
        """What an expert is taught."""
        return [lesson for lesson in self.lessons if lesson.expert == expert]

    def examination(self, expert: str) -> Callable[[PromptEncoder, LoraState], Mapping[str, object]]:
        """Compares an adapter with the bare backbone behind the same encoders, on held-out entities."""
        examine = labels_exam(self.lessons_of(expert), self.settings.exam, self.seed)

        def compare(prompt_encoder: PromptEncoder, adapter: LoraState) -> Mapping[str, object]:
            figures = {"backbone": examine(prompt_encoder, None), "specialist": examine(prompt_encoder, adapter)}
            return {f"{subject}_{name}": value for subject, values in figures.items() for name, value in values.items()}

        return compare


def read_lessons(settings: LanguageModelSettings, seed: int) -> list[Lesson]:
    """The lessons of the chosen experts."""
    if settings.root is None:
        raise ConfigError(
            "specialists.root is not set: give the folder that holds "
            f"{', '.join(dict.fromkeys(lesson.table for lesson in settings.lessons.values()))}, e.g. "
            "specialists.root=../data"
        )
    root, encoders = user_path(settings.root, "specialists.root"), settings.encoder_choices()
    if not root.is_dir():
        raise InputError(f"specialists.root={settings.root} is not a folder")
    lessons = []
    for name, lesson in settings.lessons.items():
        if lesson.expert not in settings.experts:
            continue
        encoder = encoders.get(lesson.modality)
        check = encoder.features().check if encoder else as_text(lesson.modality, lesson.words)
        lessons.append(read_lesson(name, lesson, root, check, settings.held_out, seed))
    return lessons


def check_lessons(lessons: Sequence[Lesson], backbone: Backbone, perceived: Container[str]) -> None:
    """Refuse lessons that are longer than the backbone reads, before anything is trained; they are counted as text.

    Raises:
        InputError: naming lesson and entity, its length, the limit, and how many there are.
    """
    prompt_encoder = PromptEncoder(backbone, {})
    for lesson in lessons:
        examples = [lesson.ask(value, 0) for side in (lesson.train, lesson.held_out) for part in side for value in part]
        check_reach(
            prompt_encoder,
            without_perceived([example.prompt for example in examples], perceived),
            partial(_lesson_name, lesson, examples),
            f"cut texts with specialists.lessons.{lesson.name}.words, or take another checkpoint",
            max(len(prompt_encoder.tokens(label)) for label in lesson.labels),
        )


def _lesson_name(lesson: Lesson, examples: Sequence[Example], index: int) -> str:
    entity = examples[index].entities()[0]
    return f"lesson {lesson.name!r}, {entity.modality} {entity.value[:40]}…"
