"""What is taught to the trunk, the projector and the adapter of each specialist, and how each is examined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from torch import Tensor

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Prompt
from esmerge.core.rng import generator
from esmerge.model.backbone import Backbone
from esmerge.model.imitation import Taught, answer_and_imitation_loss
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.specialists.families.panels.beliefs import Believed
from esmerge.specialists.families.panels.exams import matched_accuracy
from esmerge.specialists.families.panels.foreign import FOREIGN, ForeignEncoder, foreign
from esmerge.specialists.families.panels.lessons import Lesson, Pair, Relation
from esmerge.specialists.families.panels.settings import PanelSpecialistsSettings
from esmerge.specialists.families.panels.trunks import lessons_encoder, lessons_task
from esmerge.specialists.families.panels.wording import Wording, text_batch
from esmerge.specialists.soft_tokens.api import EncoderChoice
from esmerge.specialists.soft_tokens.stages import AdapterPlan, EncoderPlan
from esmerge.storage.cache import digest

Evaluate = Callable[[LoraState], Mapping[str, object]]
"""Adapter -> figures worth recording."""


class Curriculum:
    """Draws the training sequences of some lessons; what is drawn at a step depends on the step alone.

    Args:
        lessons: that get equal shares of a batch.
        wordings: of the text-only sequences.
        backbone: that reads the sequences.
        stream: names the random draws.
    """

    def __init__(
        self, settings: PanelSpecialistsSettings, lessons: Sequence[Lesson], wordings: Sequence[Wording],
        backbone: Backbone, seed: int, stream: str,
    ) -> None:  # fmt: skip
        self.lora, self.lessons, self.wordings, self.seed, self.stream = settings.lora, lessons, wordings, seed, stream
        hidden = backbone.embeddings().shape[1]
        longest = max(Counter(lesson.expert for lesson in settings.lessons.values()).values())
        self.foreign = ForeignEncoder(settings.encoder.tokens, longest, hidden, seed, backbone.device)

    def taught(self, step: int, believed: Believed | None = None) -> list[Taught]:
        """The sequences of a step.

        Args:
            believed: what the trunk makes of entities; None where there is none.
        """
        lora, texts = self.lora, round(self.lora.replay * self.lora.batch)
        text_sequences = text_batch(
            self.wordings, texts, lora.questions, self.seed, f"{self.stream}-texts", step, lora.naming
        )
        sequences = [Taught(sequence, imitates=sequence) for sequence in text_sequences]
        sequences += self._foreign(round(lora.foreign * lora.batch), step)
        return sequences + self._perceived(lora.batch - len(sequences), step, believed)

    def batch(self, step: int) -> list[Prompt]:
        """The sequences of a step that are answered."""
        return [taught.sequence for taught in self.taught(step) if taught.answered]

    def aligned(self, step: int, size: int) -> list[Prompt]:
        """Sequences with what is perceived, and no others: what a projector alone can learn from."""
        return [taught.sequence for taught in self._perceived(size, step, None)]

    def loss(self, prompt_encoder: PromptEncoder, step: int) -> Tensor:
        """Of the answers, and of the distance to what is imitated."""
        encoders = {**prompt_encoder.encoders, FOREIGN: self.foreign}
        everyone = PromptEncoder(prompt_encoder.backbone, encoders)
        encoder = prompt_encoder.encoders.get(self.lessons[0].modality)
        believed = Believed(encoder, self.lora.sharpness) if self.lora.beliefs and encoder is not None else None
        taught = self.taught(step, believed)
        return answer_and_imitation_loss(everyone, taught, self.lora.imitation, self.lora.reach)

    def _perceived(self, size: int, step: int, believed: Believed | None) -> list[Taught]:
        """So many sequences, in equal shares of every lesson."""
        lora, sequences, shares = self.lora, list[Taught](), len(self.lessons)
        for index, lesson in enumerate(self.lessons):
            turn = (index + step) % shares  # what is left over goes round
            count = size * (turn + 1) // shares - size * turn // shares
            rng = generator(self.seed, f"{self.stream}-{lesson.name}", step)
            lesson_sequences = lesson.draw(count, lora.questions, lora.naming, rng, self.seed)
            if believed is not None and isinstance(lesson, Relation):
                lesson_sequences = believed.in_place_of_labels(lesson_sequences, lesson, index, lora.beliefs)
            sequences += [replace(item, in_place=bool(rng.random() < lora.in_place)) for item in lesson_sequences]
        return sequences

    def _foreign(self, count: int, step: int) -> list[Taught]:
        rng, sequences = generator(self.seed, f"{self.stream}-foreign", step), []
        for number in range(count):
            wording = self.wordings[int(rng.integers(len(self.wordings)))]
            stream = f"{self.stream}-foreign-{number}"
            (text,) = text_batch([wording], 1, self.lora.questions, self.seed, stream, step, self.lora.naming)
            sequences.append(foreign(text, wording, rng))
        return sequences


class Planner:
    """Says what is taught to each encoder and specialist.

    Args:
        lessons: expert -> its lessons.
        wordings: of all panels, for texts.
        backbone: that all share.
    """

    def __init__(
        self,
        settings: PanelSpecialistsSettings,
        lessons: Mapping[str, Sequence[Lesson]],
        wordings: Sequence[Wording],
        backbone: Backbone,
        seed: int,
    ) -> None:
        self.settings, self.lessons, self.wordings = settings, lessons, wordings
        self.backbone, self.seed = backbone, seed

    def encoder(self, expert: str, choice: EncoderChoice) -> EncoderPlan:
        """The trunk learns the answers and names of an expert's lessons, the control's projector their sequences."""
        settings, lessons, seed = self.settings, self.lessons[expert], self.seed
        modality = lessons[0].modality
        hidden = self.backbone.embeddings().shape[1]
        curriculum = self._curriculum(expert, "alignment")

        def aligned(step: int) -> list[Prompt]:
            return curriculum.aligned(step, settings.alignment.batch)

        return EncoderPlan(
            modality,
            choice,
            lessons_encoder(modality, choice.features(), lessons, settings.encoder, hidden, seed),
            lessons_task(lessons, settings.encoder, seed),
            aligned,
            {"lessons": lessons_digest(self.lessons[expert])},
        )

    def specialist(self, index: int, expert: str, evaluate: Evaluate = lambda adapter: {}) -> AdapterPlan:
        """The expert learns its lessons, and is examined by ``evaluate`` where it has no encoder of its own."""
        settings, curriculum = self.settings, self._curriculum(expert, "lora")
        return AdapterPlan(
            expert,
            self.lessons[expert][0].modality,
            curriculum.batch,
            self.seed if settings.shared_init else self.seed + 1000 * index,
            {
                "lessons": lessons_digest(self.lessons[expert]),
                "texts": digest([asdict(item) for item in self.wordings]),
            },
            evaluate,
            curriculum.loss,
        )

    def examine(
        self, expert: str, prompt_encoder: PromptEncoder, adapter: LoraState | None
    ) -> dict[str, dict[str, float]]:
        """Lesson -> figures of a matched exam, under an adapter or of the bare backbone."""
        count = -(-self.settings.exam // 2)
        return {
            lesson.name: matched_accuracy(prompt_encoder, _spread(lesson, count), adapter)
            for lesson in self.lessons[expert]
        }

    def _curriculum(self, expert: str, stage: str) -> Curriculum:
        return Curriculum(
            *(self.settings, self.lessons[expert], self.wordings, self.backbone, self.seed), f"{stage}-{expert}"
        )


def lessons_digest(lessons: Sequence[Lesson]) -> str:
    """Of what lessons teach and examine: what decides a specialist beside its settings."""
    return digest([asdict(lesson) for lesson in lessons])


def texts_digest(wordings: Sequence[Wording]) -> str:
    """Of what text-only sequences are drawn from."""
    return digest([asdict(wording) for wording in wordings])


def _spread(lesson: Lesson, count: int) -> list[Pair]:
    """At most ``count`` of a lesson's pairs, from all over their list."""
    pairs = lesson.pairs
    return [pairs[index * len(pairs) // count] for index in range(count)] if len(pairs) > count else list(pairs)
