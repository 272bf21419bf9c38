"""Trunks whose features are their own answers to every name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from esmerge.specialists.families.panels.lessons import Identity, Relation
from esmerge.specialists.families.panels.readout import INVERSE_PENALTY, balanced_log_odds
from esmerge.specialists.families.panels.trunks import (
    UNKNOWN,
    AnsweringTrunk,
    GroupedProjector,
    ReadOff,
    lessons_encoder,
    lessons_task,
)
from esmerge.specialists.families.panels.wording import Wording
from esmerge.specialists.soft_tokens.api import choose_encoder
from esmerge.specialists.soft_tokens.settings import EncoderSettings
from esmerge.specialists.soft_tokens.training import train_trunk
from esmerge.specialists.soft_tokens.trunks import StandardisedLayer

SETTINGS = EncoderSettings(steps=60, batch=64, rate=5e-3, weight_decay=0.0, width=16, tokens=2)
NAMES = ("A", "B", "C", "D")
WORDING = Wording("panel", "Cell: ", "\nDrug: ", 4, NAMES)
GENES = [f"GENE{number}" for number in range(12)]


def taught() -> tuple[Relation, Identity]:
    """Cells that answer yes to a name whose gene they have, and one cell for each name."""
    rng = np.random.default_rng(0)
    cells = {" ".join(rng.choice(GENES, size=6, replace=False)) for _ in range(200)}
    answers = {cell: {name: GENES[place] in cell.split() for place, name in enumerate(NAMES)} for cell in sorted(cells)}
    relation = Relation("responds", "cell", WORDING, answers, [])
    entities = {name: [f"{GENES[place]} {GENES[place + 4]}"] for place, name in enumerate(NAMES)}
    return relation, Identity("line", "cell", WORDING, entities, [])


def test_features_are_standardised_answers_that_their_lesson_reads_off(tmp_path: Path) -> None:
    lessons = taught()
    features = choose_encoder("ranked_genes", "encoder").features()
    encoder, heads = lessons_encoder("cell", features, lessons, SETTINGS, hidden=8, seed=0)()
    train_trunk(encoder, heads, lessons_task(lessons, SETTINGS, 0), SETTINGS, 0, tmp_path)
    relation, identity = lessons
    trunk = encoder.trunk
    assert isinstance(trunk, AnsweringTrunk) and not trunk.training
    perceived = encoder.features(relation.values())
    assert perceived.shape == (len(relation.answers), 8)
    expected = torch.tensor([[relation.answers[cell][name] for name in NAMES] for cell in relation.values()])
    assert float(((perceived[:, :4] > 0) == expected).double().mean()) > 0.95, "the features themselves are the answers"
    assert perceived[:, :4].square().mean(dim=0).tolist() == pytest.approx([1.0] * 4, rel=0.05)
    assert torch.equal(trunk.verdicts(perceived, 0), perceived[:, :4])
    lines = encoder.features([identity.entities[name][0] for name in NAMES])
    assert heads[1](lines).argmax(dim=1).tolist() == [0, 1, 2, 3]
    (tokens,) = encoder.encode(relation.values()[:1])
    assert torch.equal(tokens.flatten(), encoder.projector(perceived[:1])[0]), "soft tokens are as they are projected"
    assert tokens.shape == (2 * SETTINGS.tokens, 8), "so many for each lesson"


def test_the_tokens_of_a_lesson_depend_on_its_names_alone() -> None:
    projector = GroupedProjector([3, 2], 6)
    answers = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    changed = answers.clone()
    changed[:, 3:] += 1
    before, after = projector(answers), projector(changed)
    assert before.shape == (4, 12) and torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).all()


def test_weights_are_those_of_the_seed() -> None:
    features, lessons = choose_encoder("ranked_genes", "encoder").features(), taught()
    first, second, other = (
        lessons_encoder("cell", features, lessons, SETTINGS, 8, seed)()[0].eval() for seed in (0, 0, 1)
    )
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert not torch.equal(first.encode(["GENE1"])[0], other.encode(["GENE1"])[0])


def test_a_lesson_reads_its_own_names_alone() -> None:
    answers = torch.arange(12.0).reshape(2, 6)
    logits = ReadOff(first=2, size=3)(answers)
    assert logits.tolist() == [[2, 3, 4], [8, 9, 10]]


def test_the_scale_of_a_trunk_does_not_matter() -> None:
    trunk = StandardisedLayer(5, 4)
    answering, inputs = (
        AnsweringTrunk(trunk, 4, [2, 1], [True, False]),
        torch.randn(50, 5, generator=torch.Generator().manual_seed(0)),
    )
    answering.fit_statistics(inputs)
    assert torch.equal(trunk.mean, inputs.mean(dim=0)), "the inner trunk's statistics are fitted"
    with torch.no_grad():
        features = answering(inputs)
    assert features.mean(dim=0).tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert features.var(dim=0, unbiased=False).tolist() == pytest.approx([1.0] * 3, rel=1e-2)


def test_rare_names_are_judged_as_if_yes_and_no_were_equally_frequent() -> None:
    rng = torch.Generator().manual_seed(0)
    answers = torch.randn(400, 3, generator=rng)
    labels = (answers[:, :1] + 0.5 * torch.randn(400, 3, generator=rng) > torch.tensor([0.0, 1.5, 9.0])).float()
    labels[300:, 0] = UNKNOWN
    weight, bias = balanced_log_odds(answers, labels)
    odds = answers @ weight.T + bias
    assert odds[:, :2].square().mean(dim=0).tolist() == pytest.approx([1.0, 1.0], rel=1e-4)
    assert weight[2].tolist() == [0.0] * 3 and float(bias[2]) == 0.0, "what never is yes says nothing"
    assert float(labels[:, 1].mean()) < 0.15
    missed, false = ((odds[:, 1] > 0)[labels[:, 1] == label].float().mean() for label in (1, 0))
    assert float(missed) > 0.85 and float(false) < 0.2, "a threshold that says yes to most of the few"
    by_hand = minimise_by_hand(answers[:300].double().numpy(), labels[:300, 0].numpy())
    by_hand /= np.sqrt(np.square(answers.double().numpy() @ by_hand[:3] + by_hand[3]).mean())
    assert np.allclose([*weight[0].tolist(), float(bias[0])], by_hand, atol=2e-3)


def minimise_by_hand(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights and bias of the penalised logistic regression in which both labels weigh the same."""
    weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))

    def objective(parameters: np.ndarray) -> float:
        signs = np.where(labels == 1, 1.0, -1.0) * (inputs @ parameters[:3] + parameters[3])
        penalty = 0.5 * np.square(parameters[:3]).sum() / INVERSE_PENALTY
        return float(penalty + (weights * np.logaddexp(0, -signs)).sum())

    return np.asarray(minimize(objective, np.zeros(4), tol=1e-10).x)
