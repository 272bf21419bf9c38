"""Questions in batches of like length, so that little is padded; whoever reads them puts results back by ``row``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from esmerge.core.prompts import Example
from esmerge.model.prompt_encoder import EncodedPrompt, PromptEncoder
from esmerge.model.threads import after_step

WINDOW = 8  # batches that are encoded and sorted by length together


@dataclass(frozen=True)
class Question:
    """An example, ready for a forward pass.

    Attributes:
        row: its index among all examples.
        example: the question itself.
        prompt: the encoded prompt.
        extra: positions that will follow the prompt in the same pass.
    """

    row: int
    example: Example
    prompt: EncodedPrompt
    extra: int

    @property
    def length(self) -> int:
        return len(self.prompt.ids) + self.extra


def batches(
    prompt_encoder: PromptEncoder,
    examples: Sequence[Example],
    batch_size: int,
    extra: Callable[[Example], int] = lambda example: 0,
    on_progress: Callable[[int], object] | None = None,
) -> Iterator[list[Question]]:
    """Batches of at most ``batch_size`` questions, sorted by length within windows of the original order.

    Args:
        extra: positions that will follow an example's prompt; they count for its length.
        on_progress: told how many examples were finished since the last call, after each window.

    Raises:
        InputError: an entity of an example is invalid.
    """
    for start in range(0, len(examples), WINDOW * batch_size):
        window = examples[start : start + WINDOW * batch_size]
        encoded = prompt_encoder.encode([example.prompt for example in window])
        questions = [
            Question(start + index, example, prompt, extra(example))
            for index, (example, prompt) in enumerate(zip(window, encoded, strict=True))
        ]
        questions.sort(key=lambda question: question.length)
        for first in range(0, len(questions), batch_size):
            yield questions[first : first + batch_size]
            after_step()
        if on_progress:
            on_progress(len(window))
