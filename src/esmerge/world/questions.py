"""Scenes and the questions that can be asked about them.

A scene is a few entities: ``drug : … ; protein : … ;``. A training sequence asks several questions about one scene; a
benchmark asks one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from esmerge.core.prompts import Answer, Entity, Prompt, PromptSegment
from esmerge.world.language import HEADS, NO, WORDINGS, YES, canonical
from esmerge.world.world import KINDS, World

Show = Callable[[str, int, np.random.Generator], str | Entity]
Form = tuple[str, ...]


@dataclass(frozen=True)
class Slot:
    """One entity of a scene: its modality, its kind, and the way it is shown."""

    modality: str
    kind: int
    shown: str | Entity


Scene = tuple[Slot, ...]

KIND_DELAY = 0.5  # how much rarer questions about kinds are than about rules
DRUG, PROTEIN, CELL = "molecule", "protein", "cell"
PAIR_FORMS: tuple[Form, ...] = ((DRUG, PROTEIN), (DRUG, CELL), (DRUG, PROTEIN, CELL), (DRUG, DRUG), (DRUG, DRUG, CELL))
SINGLE_FORMS: tuple[Form, ...] = ((DRUG,), (PROTEIN,), (CELL,))


def draw_kinds(world: World, form: Form, rng: np.random.Generator) -> list[int]:
    """Random kinds for the slots of a form; two drugs and a cell are drawn so that half of them combine."""
    kinds = [int(rng.integers(KINDS)) for _ in form]
    if form.count(DRUG) == 2 and CELL in form:
        combines = rng.random() < 0.5
        while kinds[0] == kinds[1] or world.combine(kinds[0], kinds[1], kinds[form.index(CELL)]) != combines:
            kinds = [int(rng.integers(KINDS)) for _ in form]
    return kinds


def draw_scene(world: World, form: Form, show: Show, rng: np.random.Generator) -> Scene:
    """A random scene of a form, each entity shown by ``show``."""
    kinds = draw_kinds(world, form, rng)
    return tuple(Slot(modality, kind, show(modality, kind, rng)) for modality, kind in zip(form, kinds, strict=True))


def topics(scene: Scene) -> list[str]:
    """What can be asked about a scene: the kind of each entity that is alone in its modality, and the rules."""
    return topics_of([slot.modality for slot in scene])


def topics_of(form: Sequence[str]) -> list[str]:
    """What can be asked about scenes of a form."""
    kind_topics = [modality for modality in HEADS if form.count(modality) == 1]
    is_pair = form.count(DRUG) == 2
    rules = {
        "bind": form.count(DRUG) == 1 and PROTEIN in form,
        "kill": form.count(DRUG) == 1 and CELL in form,
        "clash": is_pair,
        "combine": is_pair and CELL in form,
    }
    return kind_topics + [rule for rule, applies in rules.items() if applies]


def solve(world: World, scene: Scene, topic: str) -> int:
    """The answer to a topic: a kind, or 0 for no and 1 for yes."""
    kinds = {modality: [slot.kind for slot in scene if slot.modality == modality] for modality in HEADS}
    if topic in HEADS:
        return kinds[topic][0]
    if topic == "bind":
        return int(world.bind[kinds[DRUG][0], kinds[PROTEIN][0]])
    if topic == "kill":
        return int(world.kill[kinds[DRUG][0], kinds[CELL][0]])
    if topic == "clash":
        return int(world.clash[kinds[DRUG][0], kinds[DRUG][1]])
    return int(world.combine(kinds[DRUG][0], kinds[DRUG][1], kinds[CELL][0]))


def answer_word(topic: str, answer: int) -> str:
    """The word that answers a topic."""
    return canonical(topic, answer) if topic in HEADS else (NO, YES)[answer]


def scene_pieces(scene: Scene) -> list[PromptSegment]:
    """``drug : … ; protein : … ; `` with every entity a segment of its own."""
    segments: list[PromptSegment] = []
    for slot in scene:
        segments += [f"{HEADS[slot.modality]} : ", slot.shown, " ; "]
    return segments


def phrase_question(topic: str, wording: int) -> str:
    """One question in one of its wordings, up to where the answer begins."""
    return f"{WORDINGS[topic][wording]} ? "


def sequence(world: World, scene: Scene, count: int, rng: np.random.Generator) -> Prompt:
    """A scene followed by ``count`` different questions about it in random order, each with its answer.

    Rules are asked before kinds are: they are what has to be learnt.
    """
    choices = [(topic, wording) for topic in topics(scene) for wording in range(len(WORDINGS[topic]))]
    rank = [rng.random() + (topic in HEADS) * KIND_DELAY for topic, _ in choices]
    selected = sorted(range(len(choices)), key=rank.__getitem__)[:count]
    segments = scene_pieces(scene)
    for index in rng.permutation(selected):
        topic, wording = choices[index]
        segments += [phrase_question(topic, wording), Answer(answer_word(topic, solve(world, scene, topic))), " ; "]
    return tuple(segments[:-1])
