"""How many positions a backbone reads, and which prompts take more: looked at before any of them is read."""

from __future__ import annotations

import typing
import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity, Prompt, PromptSegment
from esmerge.model.prompt_encoder import PromptEncoder, text_of

OFFSET = 8  # rows that a table of positions may have beyond the config's number: OPT's has two


@dataclass(frozen=True)
class Reach:
    """What a backbone reads.

    Attributes:
        positions: ``max_position_embeddings`` of its config; None where nothing bounds it.
        fixed: whether positions beyond are not there at all (a table, as in GPT-2 and OPT); else they were merely never
            trained on (rotary ones).
    """

    positions: int | None
    fixed: bool

    @classmethod
    def of(cls, model: nn.Module) -> Reach:
        """The reach of a model, with or without its weights."""
        language_model = typing.cast(PreTrainedModel, model)
        positions = getattr(language_model.config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(positions, int) or positions < 1:
            return cls(None, False)
        words = language_model.get_input_embeddings()
        embeddings = [part for part in model.modules() if isinstance(part, nn.Embedding) and part is not words]
        tables = [part.num_embeddings for part in embeddings]
        tables += [buffer.shape[0] for buffer in model.buffers() if buffer.ndim == 2]
        return cls(positions, any(positions <= rows <= positions + OFFSET for rows in tables))


def check_reach(
    prompt_encoder: PromptEncoder,
    prompts: Sequence[Prompt],
    name: Callable[[int], str],
    remedy: str,
    extra: int = 0,
) -> None:
    """Refuse prompts with positions that the backbone does not have; warn of those it was not made for.

    Args:
        name: index of a prompt -> what a message calls it.
        remedy: what the user may do.
        extra: positions that follow each prompt: of an answer.

    Raises:
        InputError: prompts are too long; the message names the first, its length, the limit, and how many there are.
    """
    reach = Reach.of(prompt_encoder.backbone.model)
    if reach.positions is None:
        return
    lengths = overlong(prompt_encoder, prompts, reach.positions - extra)
    if not lengths:
        return
    first, longest = next(iter(lengths)), max(lengths.values())
    bound = "has" if reach.fixed else "was made for"
    text = (
        f"{name(first)} takes {lengths[first] + extra} positions{_longest_entity(prompts[first])}, and the backbone "
        f"{bound} {reach.positions} (max_position_embeddings): {len(lengths)} of {len(prompts)} prompts are longer, at "
        f"most {longest + extra}: {remedy}"
    )
    if reach.fixed:
        raise InputError(text)
    warnings.warn(text, stacklevel=2)


def without_perceived(prompts: Sequence[Prompt], perceived: Container[str]) -> list[Prompt]:
    """The prompts without the entities of perceived modalities, whose positions only their encoders can tell."""
    return [
        tuple(part for part in prompt if not isinstance(part, Entity) or part.modality not in perceived)
        for prompt in prompts
    ]


def overlong(prompt_encoder: PromptEncoder, prompts: Sequence[Prompt], limit: int) -> dict[int, int]:
    """Index -> positions of the prompts that take more than ``limit``; short texts are not tokenised for it."""
    soft = prompt_encoder.soft_lengths(prompts)
    start = 0 if prompt_encoder.backbone.start_id is None else 1

    def at_most(segment: PromptSegment) -> int:
        """A token covers a byte or more; some tokenizers put one before a text."""
        count = soft.get(segment) if isinstance(segment, Entity) else None
        return len(text_of(segment).encode()) + 1 if count is None else count

    def exact(segment: PromptSegment) -> int:
        count = soft.get(segment) if isinstance(segment, Entity) else None
        return len(prompt_encoder.tokens(text_of(segment))) if count is None else count

    candidates = (index for index, prompt in enumerate(prompts) if start + sum(map(at_most, prompt)) > limit)
    lengths = {index: start + sum(map(exact, prompts[index])) for index in candidates}
    return {index: length for index, length in lengths.items() if length > limit}


def _longest_entity(prompt: Prompt) -> str:
    entities = [segment for segment in prompt if isinstance(segment, Entity)]
    if not entities:
        return ""
    longest = max(entities, key=lambda entity: len(entity.value))
    return f" (its {longest.modality} has {len(longest.value)} characters)"
