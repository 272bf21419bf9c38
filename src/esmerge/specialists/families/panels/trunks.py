"""What a trunk is taught before the backbone sees its features: the answers and the names of its entities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.rng import generator
from esmerge.specialists.families.panels.lessons import Identity, Lesson, Relation
from esmerge.specialists.families.panels.readout import balanced_log_odds
from esmerge.specialists.soft_tokens.api import FeatureEncoder, Trunk
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder, drawn_from
from esmerge.specialists.soft_tokens.settings import EncoderSettings
from esmerge.specialists.soft_tokens.training import TrunkTask, Untrained

UNKNOWN = -1.0


def lessons_encoder(
    modality: str,
    features: FeatureEncoder,
    lessons: Sequence[Lesson],
    settings: EncoderSettings,
    hidden: int,
    seed: int,
) -> Untrained:
    """Draws an encoder and a head for each lesson.

    Soft tokens stay as long as they are projected, a few times as long as words.

    Args:
        hidden: width of the backbone's embeddings.
    """

    sizes = [len(lesson.wording.names) for lesson in lessons]

    def draw_weights() -> tuple[SoftTokenEncoder, nn.ModuleList]:
        with drawn_from(seed):
            relations = [isinstance(lesson, Relation) for lesson in lessons]
            trunk = AnsweringTrunk(features.trunk(settings.width), settings.width, sizes, relations)
            projector = GroupedProjector(sizes, settings.tokens * hidden)
            encoder = SoftTokenEncoder(
                *(modality, features, trunk, sum(sizes), len(sizes) * settings.tokens, hidden),
                normalised=False,
                projector=projector,
            )
        return encoder, nn.ModuleList(ReadOff(sum(sizes[:index]), size) for index, size in enumerate(sizes))

    return draw_weights


class AnsweringTrunk(Trunk):
    """A trunk whose features are its own answers: one for each name.

    A backbone has to learn what a soft token means, and learns it in a few hundred steps if what tells entities apart
    is what the questions are about. While it is trained, an answer has zero mean and unit variance over entities;
    afterwards an answer of yes or no is its log-odds, of unit mean square, as ``fit_readouts`` finds them.

    Args:
        trunk: with ``width`` features.
        sizes: names of each lesson.
        relations: whether a lesson's answers are yes and no.
    """

    def __init__(self, trunk: Trunk, width: int, sizes: Sequence[int], relations: Sequence[bool]) -> None:
        super().__init__()
        self.trunk, self.width, self.sizes, self.relations = trunk, width, list(sizes), list(relations)
        self.answers, self.standardise = nn.Linear(width, sum(sizes)), nn.BatchNorm1d(sum(sizes), affine=False)
        self.readouts = nn.ModuleList(
            nn.Linear(size, size) if relation else nn.Identity()
            for size, relation in zip(sizes, relations, strict=True)
        ).requires_grad_(False)

    def forward(self, prepared: Tensor) -> Tensor:
        """(n, ...) -> (n, names of all lessons)."""
        hidden = functional.layer_norm(self.trunk(prepared), (self.width,))
        standardised: Tensor = self.standardise(self.answers(hidden))
        if self.training:
            return standardised
        parts = standardised.split(self.sizes, dim=1)
        return torch.cat([readout(part) for readout, part in zip(self.readouts, parts, strict=True)], dim=1)

    def fit_statistics(self, inputs: Tensor) -> None:
        self.trunk.fit_statistics(inputs)

    def fit_readouts(self, inputs: Tensor, answers: Sequence[Tensor | None]) -> None:
        """Find the log-odds of each lesson's names in its standardised answers; names that are rarely yes weigh alike.

        Args:
            inputs: prepared entities, (n, ...).
            answers: of each lesson whose answers are yes and no, (n, names): 1, 0 or ``UNKNOWN``.
        """
        for readout in self.readouts:
            if isinstance(readout, nn.Linear):
                nn.init.eye_(readout.weight)
                nn.init.zeros_(readout.bias)
        self.eval()
        with torch.no_grad():
            parts = self(inputs).split(self.sizes, dim=1)
            for readout, part, known_answers in zip(self.readouts, parts, answers, strict=True):
                if isinstance(readout, nn.Linear) and known_answers is not None:
                    weight, bias = balanced_log_odds(part, known_answers)
                    readout.weight.copy_(weight)
                    readout.bias.copy_(bias)

    def verdicts(self, features: Tensor, lesson: int) -> Tensor:
        """The features that are a lesson's log-odds, (n, names), from those of all lessons."""
        first = sum(self.sizes[:lesson])
        return features[:, first : first + self.sizes[lesson]]


class GroupedProjector(nn.Module):
    """A linear layer for the names of each lesson: what one lesson is about does not drown in what others are.

    Args:
        sizes: names of each lesson.
        outputs: of each layer.
    """

    def __init__(self, sizes: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.sizes, self.layers = list(sizes), nn.ModuleList(nn.Linear(size, outputs) for size in sizes)

    def forward(self, answers: Tensor) -> Tensor:
        """(n, all names) -> (n, lessons * outputs)."""
        parts = answers.split(self.sizes, dim=1)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=1)


class ReadOff(nn.Module):
    """Logits of one lesson's names from a trunk's answers to all: each scaled and shifted by itself."""

    def __init__(self, first: int, size: int) -> None:
        super().__init__()
        self.first, self.scale, self.shift = first, nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, answers: Tensor) -> Tensor:
        """(n, all names) -> (n, names of the lesson)."""
        return answers[:, self.first : self.first + len(self.scale)] * self.scale + self.shift


def lessons_task(lessons: Sequence[Lesson], settings: EncoderSettings, seed: int) -> TrunkTask:
    """All answers and names of the lessons' entities."""
    values = list(dict.fromkeys(value for lesson in lessons for value in lesson.values()))
    row_of = {value: row for row, value in enumerate(values)}
    losses = [_loss_of(lesson, row_of, settings.batch, seed) for lesson in lessons]

    def finish(encoder: SoftTokenEncoder, inputs: Tensor) -> None:
        trunk = encoder.trunk
        assert isinstance(trunk, AnsweringTrunk)
        trunk.fit_readouts(
            inputs, [_known(lesson, values) if isinstance(lesson, Relation) else None for lesson in lessons]
        )

    def loss(encoder: SoftTokenEncoder, heads: nn.ModuleList, inputs: Tensor, step: int) -> Tensor:
        def logits(head: nn.Module, rows: list[int]) -> Tensor:
            predicted: Tensor = head(encoder.perceive(inputs[rows]))
            return predicted

        return torch.stack(
            [of_lesson(partial(logits, head), step) for head, of_lesson in zip(heads, losses, strict=True)]
        ).sum()

    return TrunkTask(values, loss, finish=finish)


def answers_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Mean cross-entropy of the known answers, (n, names); no and yes weigh the same in every batch.

    Args:
        answers: 1, 0 or ``UNKNOWN``.
    """
    no, yes = answers == 0, answers == 1
    losses = functional.binary_cross_entropy_with_logits(logits, answers.clamp(min=0), reduction="none")
    return losses[no].mean() + losses[yes].mean()


StepLoss = Callable[[Callable[[list[int]], Tensor], int], Tensor]
"""(rows of entities -> logits, step) -> loss."""


def _loss_of(lesson: Lesson, row_of: dict[str, int], batch: int, seed: int) -> StepLoss:
    return (
        _relation_loss(lesson, row_of, batch, seed)
        if isinstance(lesson, Relation)
        else _identity_loss(lesson, row_of, batch, seed)
    )


def _relation_loss(lesson: Relation, row_of: dict[str, int], batch: int, seed: int) -> StepLoss:
    values = lesson.values()
    answers = _known(lesson, values)

    def loss(logits: Callable[[list[int]], Tensor], step: int) -> Tensor:
        rows = generator(seed, f"trunk-{lesson.name}", step).integers(len(values), size=batch)
        return answers_loss(logits([row_of[values[row]] for row in rows]), answers[torch.from_numpy(rows)])

    return loss


def _known(lesson: Relation, values: Sequence[str]) -> Tensor:
    """Answers to the lesson's names, (n, names): 1, 0 or ``UNKNOWN``."""
    names = {name: column for column, name in enumerate(lesson.wording.names)}
    answers = torch.full((len(values), len(names)), UNKNOWN)
    for row, value in enumerate(values):
        for name, holds in lesson.answers.get(value, {}).items():
            answers[row, names[name]] = float(holds)
    return answers


def _identity_loss(lesson: Identity, row_of: dict[str, int], batch: int, seed: int) -> StepLoss:
    entities = [lesson.entities[name] for name in lesson.wording.names]

    def loss(logits: Callable[[list[int]], Tensor], step: int) -> Tensor:
        rng = generator(seed, f"trunk-{lesson.name}", step)
        labels = rng.integers(len(entities), size=batch)
        rows = [row_of[entities[label][int(rng.integers(len(entities[label])))]] for label in labels]
        return functional.cross_entropy(logits(rows), torch.from_numpy(labels))

    return loss
