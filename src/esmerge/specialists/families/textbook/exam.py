"""The exam of a trained world: does the backbone know the rules, does each specialist perceive what it was taught?

Rules are asked about scenes of unseen entities, the answers in equal numbers. In one part all entities are in words; in
one part per specialist its own modality is perceived, and the rest is in words.
"""

from __future__ import annotations

import torch

from esmerge.adapters.lora import LoraState
from esmerge.core.prompts import Example
from esmerge.core.rng import generator
from esmerge.model.scoring import score
from esmerge.specialists.specialists import Exam, Specialists
from esmerge.world.curriculum import perceive
from esmerge.world.entities import Pools
from esmerge.world.language import NO, YES
from esmerge.world.questions import PAIR_FORMS, Form, draw_scene, phrase_question, scene_pieces, solve, topics_of
from esmerge.world.world import World

QUESTIONS = 240  # per part
WORDINGS = 3
BATCH = 64
TEXT = "backbone, all in words"
LEAST_TEXT, LEAST_PERCEIVED, LEAST_GAIN = 0.85, 0.85, 0.05  # what every world that was trained passes with room


def exam(specialists: Specialists, world: World, pools: Pools, questions: int = QUESTIONS) -> Exam:
    """Share of right answers of the bare backbone and of each specialist, and what the specialist gained.

    Args:
        questions: per part.
    """
    figures = {TEXT: accuracy(specialists, None, rule_questions(world, pools, "", questions))}
    required = {TEXT: LEAST_TEXT}
    for expert, state in specialists.adapters.items():
        modality = specialists.expert_modality[expert]
        part = rule_questions(world, pools, modality, questions)
        perceived, gained = f"{expert} specialist, {modality} perceived", f"{expert} specialist, gain over backbone"
        figures[perceived] = accuracy(specialists, state, part)
        figures[gained] = figures[perceived] - accuracy(specialists, None, part)
        required |= {perceived: LEAST_PERCEIVED, gained: LEAST_GAIN}
    return Exam(figures, required)


def rule_questions(world: World, pools: Pools, modality: str, count: int) -> list[Example]:
    """Questions about the rules; entities of ``modality`` are shown as what they are, all others in words."""
    rng = generator(world.seed, f"exam-{modality}")
    show = perceive(pools.test, modality)
    form_topics = [(form, topic) for form in PAIR_FORMS if not modality or modality in form for topic in rules_of(form)]
    examples = []
    for index in range(count):
        (form, topic), answer = form_topics[index % len(form_topics)], index // len(form_topics) % 2
        scene = draw_scene(world, form, show, rng)
        while solve(world, scene, topic) != answer:
            scene = draw_scene(world, form, show, rng)
        prompt = (*scene_pieces(scene), phrase_question(topic, int(rng.integers(WORDINGS))))
        examples.append(Example(f"exam-{modality}-{index}", prompt, (NO, YES), answer))
    return examples


def rules_of(form: Form) -> list[str]:
    """The rules that can be asked about a form; kinds are left out."""
    return [topic for topic in topics_of(form) if topic not in form]


def accuracy(specialists: Specialists, adapter: LoraState | None, examples: list[Example]) -> float:
    """Share of the examples whose right label is the most probable, under an adapter or the bare backbone."""
    with specialists.backbone.attached({} if adapter is None else {"examined": adapter}) as activate:
        activate(None if adapter is None else "examined")
        best = score(specialists.caching_prompt_encoder, examples, BATCH).loglik.argmax(1)
    answers = torch.tensor([example.answer for example in examples])
    return float((best == answers).double().mean())
