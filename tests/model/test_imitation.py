"""The distance between what is perceived and the same in words, and whom it teaches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft.tuners.lora import LoraLayer
from tests import small
from torch.nn import functional

from esmerge.core.errors import InputError
from esmerge.core.prompts import Answer, Entity, Prompt
from esmerge.model.attach import detach, init_lora, without_adapters
from esmerge.model.imitation import (
    RAGGED_ON_CPU,
    SKIPPED,
    Taught,
    answer_and_imitation_loss,
    answer_places,
    groups_by_length,
    places_before_answers,
    read_states,
    relative_distance,
)
from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import PromptEncoder

SEEN: list[Prompt] = [
    ("drug : ", Entity("molecule", "CCO"), " ; ", Answer("yes"), " ; drug : ", Entity("molecule", "CN"), Answer("no")),
    ("cell : ALB TTR ; ", Answer("no")),
]
NAMED: list[Prompt] = [("drug : not at all ; ", Answer("yes"), " ; drug : all", Answer("no")), SEEN[1]]
TAUGHT = [Taught(sequence, imitates) for sequence, imitates in zip(SEEN, NAMED, strict=True)]


@pytest.fixture
def ours() -> PromptEncoder:
    body = small.backbone(layers=4)
    return PromptEncoder(body, {"molecule": small.TableEncoder("molecule", 16)})


def states_by_hand(ours: PromptEncoder, sequence: Prompt) -> list[torch.Tensor]:
    """Hidden states of one sequence where its answers are predicted, layer by layer."""
    (item,) = ours.encode([sequence])
    places = [place for place, target in enumerate(item.targets) if target >= 0]
    batch = ours.collate([item])
    hidden = ours.backbone.model.model(inputs_embeds=batch.embeds, output_hidden_states=True).hidden_states
    return [state[0, places] for state in hidden[1:]]


def test_the_loss_is_that_of_the_answers_and_the_relative_distance(ours: PromptEncoder) -> None:
    with torch.no_grad():
        plain, total = (float(answer_and_imitation_loss(ours, TAUGHT, weight)) for weight in (0.0, 2.0))
        assert plain == pytest.approx(float(answer_loss(ours, SEEN)), rel=1e-5)
        seen, named = (states_by_hand(ours, sequences[0]) for sequences in (SEEN, NAMED))
    by_layer = [((a - b).square().mean(-1) / b.square().mean(-1)) for a, b in zip(seen, named, strict=True)][
        int(SKIPPED * len(seen)) :
    ]
    distances = torch.stack(by_layer)  # the second sequence stands in the same words: its distance is 0
    expected = float(distances.sum() / (distances.numel() + distances.shape[0]))
    assert total - plain == pytest.approx(2 * expected, rel=1e-4)


def test_the_name_before_an_answer_is_compared_too(ours: PromptEncoder) -> None:
    (seen,), (named,) = (ours.encode(sequences[:1]) for sequences in (SEEN, NAMED))
    for reach in range(9):
        seen_places, named_places = places_before_answers(seen, named, reach)
        answers = [answer_places(item) for item in (seen, named)]
        assert (
            len(seen_places) == len(named_places)
            and set(answers[0]) <= set(seen_places)
            and set(answers[1]) <= set(named_places)
        )
        assert seen_places == sorted(set(seen_places)) and named_places == sorted(set(named_places))
        steps = [later - earlier for earlier, later in zip(seen_places, seen_places[1:], strict=False)]
        assert reach or seen_places == answers[0], "answers alone"
        assert all(step >= 1 for step in steps) and len(seen_places) <= 2 * (reach + 1)
    spaces = [answers[0][0], answers[1][0], *(later - earlier - 2 for earlier, later in answers)]
    assert min(spaces) >= 1
    with torch.no_grad():
        near, far = (float(answer_and_imitation_loss(ours, TAUGHT, 1.0, reach)) for reach in (0, 3))
        states = []
        for item, places in zip((seen, named), places_before_answers(seen, named, 3), strict=True):
            batch = ours.collate([item])
            hidden = ours.backbone.model.model(inputs_embeds=batch.embeds, output_hidden_states=True).hidden_states
            states.append(torch.stack([state[0, places] for state in hidden[1:]])[int(SKIPPED * 4) :])
    own_distance = ((states[0] - states[1]).square().mean(-1) / states[1].square().mean(-1)).sum()
    same = len(places_before_answers(*(ours.encode(SEEN[1:]) * 2), 3)[0])
    plain = float(answer_loss(ours, SEEN))
    layers, places_compared, _ = states[0].shape
    assert far - plain == pytest.approx(float(own_distance) / layers / (places_compared + same), rel=1e-4)
    assert far != pytest.approx(near, rel=1e-3)


def test_an_answer_that_is_not_certain_shares_its_loss_with_another(ours: PromptEncoder) -> None:
    taught, sure = Taught(SEEN[0]), Taught(SEEN[1])
    doubted = replace(taught, alternatives=(("no", 0.25), ("yes", 1.0)))
    with torch.no_grad():
        loss = float(answer_and_imitation_loss(ours, [doubted, sure], 0.0))
        (item,) = ours.encode([taught.sequence])
        places = [place for place, target in enumerate(item.targets) if target >= 0]
        logits = ours.backbone.model(inputs_embeds=ours.collate([item]).embeds).logits[0, places].log_softmax(-1)
        yes, no = ours.tokens("yes")[0], ours.tokens("no")[0]
        other_loss = float(answer_loss(ours, [SEEN[1]]))
    by_hand = -(0.75 * logits[0, yes] + 0.25 * logits[0, no]) - logits[1, yes]
    assert loss == pytest.approx((float(by_hand) + other_loss) / 3, rel=1e-5)
    with pytest.raises(InputError, match="must be a single one"):
        answer_and_imitation_loss(ours, [replace(taught, alternatives=(("drug : all", 0.5),) * 2)], 0.0)
    with pytest.raises(InputError, match="1 answers are 2 tokens"):
        answer_and_imitation_loss(ours, [replace(taught, alternatives=(("no", 0.5),))], 0.0)


def test_sequences_of_like_length_are_read_together_and_keep_their_order(ours: PromptEncoder) -> None:
    long: Prompt = ("cell : ALB TTR ; " * 20, Answer("yes"))
    sequences = [long, SEEN[0], ("drug : ", Answer("no")), SEEN[1], long]
    lengths = [len(item.ids) for item in ours.encode(sequences)]
    ragged = RAGGED_ON_CPU
    groups = groups_by_length(lengths, ragged)
    assert sorted(index for group in groups for index in group) == [0, 1, 2, 3, 4] and len(groups) > 1
    assert all(max(lengths[i] for i in group) <= ragged * min(lengths[i] for i in group) for group in groups)
    with torch.no_grad():
        joint, *separate = (
            read_states(ours, encoded, [answer_places(item) for item in encoded])
            for encoded in (ours.encode(part) for part in (sequences, *([sequence] for sequence in sequences)))
        )
    assert joint.rows.tolist() == [0, 1, 1, 2, 3, 4]
    assert torch.equal(joint.targets, torch.cat([single.targets for single in separate]))
    assert torch.allclose(joint.states, torch.cat([single.states for single in separate], dim=1), atol=1e-5)


def test_a_sequence_without_words_beside_it_imitates_nothing(ours: PromptEncoder) -> None:
    with torch.no_grad():
        plain, some, single = (
            float(answer_and_imitation_loss(ours, taught, 2.0))
            for taught in (list(map(Taught, SEEN)), [TAUGHT[0], Taught(SEEN[1])], TAUGHT[:1])
        )
        answers = [float(answer_loss(ours, sequences)) for sequences in (SEEN, SEEN[:1])]
    assert plain == pytest.approx(answers[0], rel=1e-5)
    assert some - plain == pytest.approx(single - answers[1], rel=1e-4)


def test_what_is_not_answered_is_imitated_alone(ours: PromptEncoder) -> None:
    parameters = init_lora(ours.backbone.model, "taught", 2, 4.0, ("q_proj", "down_proj"), 0)
    unanswered = [Taught(sequence, sequence, answered=False) for sequence in SEEN[:1]]
    with torch.no_grad():
        others = [Taught(SEEN[1])]
        assert float(answer_and_imitation_loss(ours, [*others, *unanswered], 1.0)) == pytest.approx(
            float(answer_loss(ours, SEEN[1:])), rel=1e-5
        ), "an adapter that changes nothing is at no distance"
        for parameter in parameters:
            parameter += 0.1
        near, far = (float(answer_and_imitation_loss(ours, [*others, *unanswered], weight)) for weight in (0.0, 1.0))
        assert near == pytest.approx(float(answer_loss(ours, SEEN[1:])), rel=1e-5) and far > near + 1e-3
    detach(ours.backbone.model)


def test_in_place_adapters_act_on_entities_alone(ours: PromptEncoder) -> None:
    model, targets = ours.backbone.model, ("q_proj", "v_proj", "down_proj")
    for name, parameter in zip("AB" * 99, init_lora(model, "taught", 2, 4.0, targets, 0), strict=False):
        parameter.data += 0.0 if name == "A" else 0.3
    (item,) = ours.encode(SEEN[:1])
    entities = torch.zeros(1, len(item.ids), 1)
    for span in item.spans:
        entities[0, span.start : span.stop] = 1

    def at_entities(layer: LoraLayer, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return torch.where(entities.bool(), output, layer.get_base_layer()(*inputs))

    with torch.no_grad():
        everywhere, in_place = (
            float(answer_and_imitation_loss(ours, [Taught(SEEN[0], in_place=entities_only)], 0.0))
            for entities_only in (False, True)
        )
        hooks = [m.register_forward_hook(at_entities) for m in model.modules() if isinstance(m, LoraLayer)]
        by_hand = float(answer_loss(ours, SEEN[:1]))
        for hook in hooks:
            hook.remove()
        assert in_place == pytest.approx(by_hand, rel=1e-5)
        assert everywhere == pytest.approx(float(answer_loss(ours, SEEN[:1])), rel=1e-5)
    assert abs(everywhere - in_place) > 1e-3
    detach(model)


def test_an_adapter_learns_while_the_words_stay_those_of_the_bare_backbone(ours: PromptEncoder) -> None:
    parameters = init_lora(ours.backbone.model, "taught", 2, 4.0, ("q_proj", "down_proj"), 0)
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    first = last = 0.0
    for step in range(30):
        loss = answer_and_imitation_loss(ours, TAUGHT, 1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = (float(loss.detach()), last) if step == 0 else (first, float(loss.detach()))
    assert last < 0.8 * first
    fresh = PromptEncoder(small.backbone(layers=4), dict(ours.encoders))
    with torch.no_grad(), without_adapters(ours.backbone.model):
        for state, expected in zip(states_by_hand(ours, NAMED[0]), states_by_hand(fresh, NAMED[0]), strict=True):
            assert torch.allclose(state, expected, atol=1e-5)
    assert all(parameter.requires_grad for parameter in parameters), "training goes on"
    with torch.no_grad():
        assert float(answer_and_imitation_loss(ours, TAUGHT, 1.0)) < 0.8 * first, "the adapter is active again"
    detach(ours.backbone.model)


def test_the_distance_does_not_depend_on_how_long_states_are() -> None:
    generator = torch.Generator().manual_seed(0)
    states, target = (torch.randn(3, 5, 8, generator=generator) for _ in range(2))
    scales = torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    assert float(relative_distance(states * scales, target * scales)) == pytest.approx(
        float(relative_distance(states, target)), rel=1e-5
    )
    assert float(relative_distance(torch.zeros(3, 5, 8), target)) == pytest.approx(1.0)
    assert float(functional.mse_loss(states, states)) == float(relative_distance(target, target)) == 0.0
