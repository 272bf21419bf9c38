"""Questions in a chat: what stands around them, what the label follows, and which template is meant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import small
from transformers import PreTrainedTokenizerBase

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.model.chat import DATE, Chat, ChatSettings, read_chat

TEMPLATE = (
    "{{ bos_token }}<sys>{{ date_string }}"
    "{% if messages[0]['role'] == 'system' %} {{ messages[0]['content'] }}{% endif %}</sys>"
    "{% for turn in messages %}{% if turn['role'] == 'user' %}<user>{{ turn['content'] | trim }}</user>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)
ENTITY = Entity("molecule", "CCO")
QUESTION = Example("q", ("Molecule: ", ENTITY, "\nDoes it bind?\nFinal answer:"), (" No", " Yes"), 1)
CHAT = Chat("<user>", "</user><answer>")


def tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerBase:
    words = small.tokenizer()
    words.chat_template = template
    return words


def text(example: Example) -> str:
    return "".join(part.value if isinstance(part, Entity) else str(part) for part in example.prompt)


def test_the_last_line_opens_the_assistants_turn() -> None:
    question = CHAT.question(QUESTION)
    assert text(question) == "<user>Molecule: CCO\nDoes it bind?</user><answer>Final answer:"
    assert question.labels == (" No", " Yes") and question.answer == 1 and question.entities() == (ENTITY,)


def test_a_label_that_begins_the_assistants_turn_has_no_blank_before_it() -> None:
    question = replace(CHAT, prefill=False).question(QUESTION)
    assert text(question) == "<user>Molecule: CCO\nDoes it bind?\nFinal answer:</user><answer>"
    assert question.labels == ("No", "Yes")
    brief = CHAT.question(replace(QUESTION, prompt=("Molecule: ", ENTITY)))
    assert text(brief) == "<user>Molecule: CCO</user><answer>" and brief.labels == ("No", "Yes")


def test_all_sides_of_a_benchmark_are_asked_alike() -> None:
    sides = {"train": (QUESTION,), "validation": (QUESTION, QUESTION), "test": (QUESTION,)}
    benchmark = Benchmark("b", "B", "cross_modal", ("No", "Yes"), checksum="0", **sides)
    chat_benchmark = CHAT.benchmark(benchmark)
    assert (
        chat_benchmark.train == chat_benchmark.test == (CHAT.question(QUESTION),)
        and len(chat_benchmark.validation) == 2
    )
    assert chat_benchmark.labels == ("No", "Yes")


@pytest.mark.parametrize(
    ("system", "expected"), [(None, f"<sys>{DATE}</sys>"), ("Be brief.", f"<sys>{DATE} Be brief.</sys>")]
)
def test_the_tokenizers_template_on_a_date_that_stays(system: str | None, expected: str) -> None:
    chat = read_chat(tokenizer(), ChatSettings(enabled=True, system=system))
    assert chat == Chat(f"{expected}<user>", "</user><answer>"), "without the start token, which every prompt has"


def test_texts_of_ones_own_need_no_template() -> None:
    settings = ChatSettings(enabled=True, opening="Q: ", closing=" A:", prefill=False)
    assert read_chat(tokenizer(None), settings) == Chat("Q: ", " A:", False)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template: give specialists.chat.opening"),
        ("{{ bos_token }}no words", "does not put the user's words exactly once"),
        ("{{ messages[0]['content'] * 2 }}", "does not put the user's words exactly once"),
        ("{{ raise_exception('roles must alternate') }}", "cannot be used: roles must alternate"),
    ],
)
def test_templates_that_cannot_be_used(template: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_chat(tokenizer(template), ChatSettings(enabled=True))


@pytest.mark.parametrize(
    "settings", [{"opening": "Q: "}, {"closing": "A: "}, {"opening": "Q", "closing": "A", "system": "Be brief."}]
)
def test_settings_that_do_not_go_together(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="chat.opening"):
        ChatSettings(enabled=True, **settings)
