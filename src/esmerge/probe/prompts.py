"""Settings and the building blocks that probe variants share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esmerge.core.prompts import Entity, Prompt, PromptSegment
from esmerge.core.rng import generator
from esmerge.core.validation import at_least
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.reach import check_reach, without_perceived
from esmerge.probe.api import ProbeConfig
from esmerge.specialists.specialists import Specialists


@dataclass(frozen=True)
class ProbeSettings(ProbeConfig):
    """Settings of a probe made from the specialists' own entities.

    Attributes:
        samples: K, number of prompts (for ``single``: of each modality).
        batch_size: prompts per pass; the element score depends on it.
    """

    samples: int = 330
    batch_size: int = 2

    def __post_init__(self) -> None:
        at_least(self, "probe", 1, "samples", "batch_size")


def draw_entities(specialists: Specialists, modality: str, count: int, seed: int) -> list[Entity]:
    """``count`` random entities of a modality from the specialists' pool, without repetition while the pool lasts."""
    pool = specialists.pool[modality]
    rng = generator(seed, f"probe-{modality}")
    rounds = [rng.permutation(len(pool)) for _ in range(-(-count // len(pool)))]
    return [Entity(modality, pool[index]) for order in rounds for index in order][:count]


def check_probe(specialists: Specialists, prompts: Sequence[Prompt], name: Callable[[int], str]) -> None:
    """Refuse probe prompts that are longer than the backbone reads, before one of them is read.

    Entities that an encoder perceives are not counted here, since encoding them is work.

    Args:
        name: index of a prompt -> what a message calls it.

    Raises:
        InputError: naming the first prompt, its length, the limit, and how many there are.
    """
    remedy = "shorten the texts of the probe, or take another backbone"
    check_reach(PromptEncoder(specialists.backbone, {}), without_perceived(prompts, specialists.encoders), name, remedy)


def prompt(specialists: Specialists, entities: Sequence[Entity]) -> Prompt:
    """A short label and then the entity, one after the other."""
    segments: list[PromptSegment] = []
    for entity in entities:
        segments += [specialists.prompt_style.labels[entity.modality], entity, specialists.prompt_style.separator]
    return tuple(segments)
