"""Prompt templates: text with placeholders, filled with entities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Entity, Prompt, PromptSegment

ENGLISH, BRIEF = "english", "brief"  # wordings; brief: names and records in place of sentences
Filling = Entity | str  # an entity that is perceived, or the words that name or describe it
Value = TypeVar("Value")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def fill(template: str, entities: Mapping[str, Sequence[Filling]]) -> Prompt:
    """Put entities into a template: text segments and entities in turn. Words in an entity's position become part of
    the text around them.

    Args:
        template: text with ``{modality}`` or, where a prompt holds several of one modality, ``{modality_1}``,
            ``{modality_2}`` and so on.
        entities: modality -> its entities in order.

    Raises:
        ConfigError: a placeholder without an entity, an entity without a placeholder, or a stray brace.
    """
    named = _names(entities)
    segments: list[PromptSegment] = []
    used = set()
    for index, part in enumerate(PLACEHOLDER.split(template)):
        if index % 2:  # re.split puts what the group matched at odd positions
            _append(segments, _entity(part, named, template))
            used.add(part)
        elif part:
            _check_text(part, template)
            _append(segments, part)
    unused = [name for name in named if name not in used]
    if unused:
        raise ConfigError(f"prompt {template!r} has no place for {_braced(unused)}: add the placeholder(s)")
    return tuple(segments)


def few_shot(question: Prompt, solved: Sequence[tuple[Prompt, str]], separator: str) -> Prompt:
    """Solved examples, a separator after each, then the question.

    An answer is plain text here, since the loss is taken on ``Answer`` segments. It is a segment of its own, so that it
    has the same tokens as the label that is scored after the question.

    Args:
        question: the segments before the answer.
        solved: (prompt, answer) of each example; the answer as it follows the prompt.
        separator: text between an answer and the next prompt.
    """
    before = [segment for prompt, answer in solved for segment in (*prompt, answer, separator)]
    return (*before, *question)


def worded_language(by_language: Mapping[str, object], language: str) -> str:
    """The language that is asked in: who reads the brief wording is asked in English where there is no brief one."""
    return ENGLISH if language == BRIEF and BRIEF not in by_language else language


def in_language(kind: str, by_language: Mapping[str, Value], language: str, benchmark: str) -> Value:
    """The entry of ``language``, of English in place of a brief one that does not exist; raises ``ConfigError`` naming
    the languages there are."""
    language = worded_language(by_language, language)
    if language not in by_language:
        raise ConfigError(
            f"benchmark {benchmark!r} has no {kind} for language {language!r}, has {', '.join(by_language) or 'none'}; "
            f"add benchmark.{kind}.{language}"
        )
    return by_language[language]


def answers(labels: Sequence[str], template: str) -> tuple[str, ...]:
    """Labels as the text that follows the prompt: with a leading blank unless the prompt ends in one."""
    gap = "" if template[-1:].isspace() else " "
    return tuple(gap + label for label in labels)


def _append(segments: list[PromptSegment], segment: Filling) -> None:
    """Add a segment; text goes on where text stands last, so that it is read as one."""
    if isinstance(segment, str) and segments and isinstance(segments[-1], str):
        segments[-1] += segment
    else:
        segments.append(segment)


def _names(entities: Mapping[str, Sequence[Filling]]) -> dict[str, Filling]:
    """Placeholder name -> entity."""
    named = {}
    for modality, sequence in entities.items():
        for number, entity in enumerate(sequence, start=1):
            named[modality if len(sequence) == 1 else f"{modality}_{number}"] = entity
    return named


def _entity(name: str, named: Mapping[str, Filling], template: str) -> Filling:
    if name not in named:
        available = _braced(named) or "no entities"
        raise ConfigError(f"prompt {template!r} asks for {{{name}}}, but the benchmark has {available}")
    return named[name]


def _check_text(text: str, template: str) -> None:
    if "{" in text or "}" in text:
        raise ConfigError(f"prompt {template!r} has a stray brace in {text!r}: placeholders are written {{molecule}}")


def _braced(names: Sequence[str] | Mapping[str, Filling]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
