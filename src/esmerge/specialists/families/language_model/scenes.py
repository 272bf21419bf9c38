"""Facts in words, and questions about perceived entities: what a specialist does with what the backbone has read.

A lesson whose labels are classes of a form, and which names that form, is asked as the form is, with an entity of a
class where the form has a name: "Molecule: inhibits CYP2D6, but not CYP1A2. Enzyme: (perceived). Inhibited?"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer, Example, Prompt, PromptSegment
from esmerge.core.rng import generator
from esmerge.specialists.families.language_model.forms import NAME, NO, YES, FormSettings, draw_scene
from esmerge.specialists.families.language_model.lessons import Lesson


class Scenes:
    """Asks one lesson in the words of one form.

    Args:
        lesson: its labels are classes of the form; its prompt is the question, from the line's beginning.
        form: whose facts are told.

    Raises:
        ConfigError: a label is no class of the form, or there are fewer than four.
    """

    def __init__(self, lesson: Lesson, form: FormSettings, seed: int) -> None:
        self.lesson, self.seed = lesson, seed
        self.classes = [label.strip() for label in lesson.labels]
        if strange := [label for label in self.classes if label not in form.names.values()]:
            raise ConfigError(
                f"specialists.lessons.{lesson.name}: {', '.join(strange)} is no class of its form, which has "
                f"{', '.join(sorted(set(form.names.values())))}"
            )
        # asked with the classes themselves, in whose place the entities are put
        self.form = replace(form, questions=[NAME], names={name: name for name in self.classes})

    def draw(self, count: int, questions: int, stream: str, step: int) -> list[Prompt]:
        """``count`` training sequences with up to ``questions`` entities each, an answer after every one."""
        rng = generator(self.seed, f"{stream}-{self.lesson.name}", step)
        return [self._sequence(questions, rng) for _ in range(count)]

    def matched(self, count: int) -> list[tuple[Example, Example]]:
        """``count / 2`` facts that were never taught, each asked of a held-out entity it excludes and of one it lists.

        The order of classes in facts is drawn, so neither fact nor entity alone tells anything.
        """
        rng = generator(self.seed, f"matched-scenes-{self.lesson.name}")
        pairs: list[tuple[Example, Example]] = []
        while 2 * len(pairs) < count:
            scene = draw_scene(self.form, len(self.classes), rng, "held_out", self.seed)
            no, yes = (next(item for item, holds in scene.asked if holds is answer) for answer in (False, True))
            number = len(pairs)
            pairs.append(
                (
                    self._example(f"{number}-no", scene.fact, no, 0, rng),
                    self._example(f"{number}-yes", scene.fact, yes, 1, rng),
                )
            )
        return pairs

    def _sequence(self, questions: int, rng: np.random.Generator) -> Prompt:
        scene = draw_scene(self.form, questions, rng, "train", self.seed)
        sequence: list[PromptSegment] = [scene.fact]
        for item, holds in scene.asked:
            sequence += [*self._question(item, self.lesson.train, rng), Answer(YES if holds else NO)]
        return tuple(sequence)

    def _example(self, name: str, fact: str, item: str, answer: int, rng: np.random.Generator) -> Example:
        prompt = (fact, *self._question(item, self.lesson.held_out, rng))
        return Example(f"{self.lesson.name}:{name}", prompt, (NO, YES), answer)

    def _question(self, item: str, side: Sequence[Sequence[str]], rng: np.random.Generator) -> Prompt:
        values = side[self.classes.index(item)]
        return self.lesson.ask(values[int(rng.integers(len(values)))], 0).prompt
