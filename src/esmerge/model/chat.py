"""Questions as turns of a chat: the user asks, and the answer begins the assistant's turn.

The last line of a question, such as ``Final answer:``, opens the assistant's turn, so that a label follows the same
words as without a chat. Every segment is still read on its own, which leaves the entities' spans where they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Example, Prompt

CONTENT = "esmerge:content"  # stands in a template for the question
DATE = "26 Jul 2024"  # Llama-3.1's own default: a template that puts today's date would ask something else every day


@dataclass(frozen=True)
class ChatSettings:
    """How a question becomes a turn of a chat.

    Attributes:
        enabled: whether it does; without, a question stands alone.
        system: what the system says before; None for what the template says by itself.
        opening, closing: the text before and after the user's words; None for those of the tokenizer's chat template.
        prefill: whether the question's last line opens the assistant's turn; else the user says all of it.
    """

    enabled: bool = False
    system: str | None = None
    opening: str | None = None
    closing: str | None = None
    prefill: bool = True

    def __post_init__(self) -> None:
        if (self.opening is None) != (self.closing is None):
            raise ConfigError("chat.opening and chat.closing belong together: give both, or null for the template's")
        if self.system is not None and self.opening is not None:
            raise ConfigError("chat.system goes into the tokenizer's chat template: with chat.opening, say it there")


@dataclass(frozen=True)
class Chat:
    """The texts around a question.

    Attributes:
        opening: before it.
        closing: after it, up to where the assistant's words begin.
        prefill: see ``ChatSettings``.
    """

    opening: str
    closing: str
    prefill: bool = True

    def around(self, prompt: Prompt) -> tuple[Prompt, bool]:
        """The question as a turn, and whether its last line opens the assistant's."""
        *before, last = prompt
        if not isinstance(last, str):
            return (self.opening, *prompt, self.closing), False
        head, newline, line = last.rpartition("\n")
        if not (self.prefill and newline and line.strip()):
            return (self.opening, *before, last.rstrip() + self.closing), False
        return (self.opening, *before, head + self.closing + line), True

    def question(self, example: Example) -> Example:
        """The same example in a chat; a label that begins the assistant's turn has no blank before it."""
        prompt, prefilled = self.around(example.prompt)
        labels = example.labels if prefilled else tuple(label.strip() for label in example.labels)
        return replace(example, prompt=prompt, labels=labels)

    def benchmark(self, benchmark: Benchmark) -> Benchmark:
        """The same benchmark, every question asked in a chat."""
        train, validation, test = (
            tuple(map(self.question, examples)) for examples in (benchmark.train, benchmark.validation, benchmark.test)
        )
        return replace(benchmark, train=train, validation=validation, test=test)


def read_chat(tokenizer: PreTrainedTokenizerBase, settings: ChatSettings) -> Chat:
    """The texts around a question, from the settings or from the tokenizer's chat template.

    Raises:
        ConfigError: the tokenizer has no template, or one that does not put the user's words once, as they are.
    """
    if settings.opening is not None and settings.closing is not None:
        return Chat(settings.opening, settings.closing, settings.prefill)
    if not tokenizer.chat_template:
        raise ConfigError(
            "chat: the backbone's tokenizer has no chat template: give specialists.chat.opening and .closing, or say "
            "specialists.chat.enabled=false"
        )
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    text = _rendered(tokenizer, [*system, {"role": "user", "content": CONTENT}])
    opening, content, closing = text.partition(CONTENT)
    if not content or CONTENT in closing:
        raise ConfigError(
            "chat: the backbone's chat template does not put the user's words exactly once: give "
            "specialists.chat.opening and .closing"
        )
    start = tokenizer.bos_token or ""
    return Chat(opening.removeprefix(start), closing, settings.prefill)  # a start token is put before every prompt


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> str:
    fixed: dict[str, Any] = {"date_string": DATE, "strftime_now": lambda _: DATE}
    try:
        rendered = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **fixed)
    except (TemplateError, ValueError) as error:
        raise ConfigError(f"chat: the backbone's chat template cannot be used: {error}") from error
    return str(rendered)
