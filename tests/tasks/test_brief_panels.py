"""The four panels in the brief wording: records and names stand for what is not perceived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.data.test_families import clan
from tests.tasks.wording import CELL_PROMPT, LABELS, PROMPT

from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.panel import PanelSettings
from esmerge.tasks.sources.cyp_panel import CypPanelSettings, cyp_panel
from esmerge.tasks.sources.ddi_panel import DdiPanelSettings, ddi_panel
from esmerge.tasks.sources.response_panel import ResponsePanelSettings, response_panel
from esmerge.tasks.sources.target_panel import TargetPanelSettings, target_panel

CHAINS = ["C" * length + tail for length in range(1, 31) for tail in ("O", "N", "F", "Cl", "Br")]
Load = Callable[..., Benchmark]


def cyp(write: Callable) -> tuple[Callable, PanelSettings]:
    rng, enzymes = np.random.default_rng(0), ("CYP1A2", "CYP2C9", "CYP2D6", "CYP3A4")
    for enzyme in enzymes:
        rows = "".join(f"{molecule},{int(rng.random() < 0.3)}\n" for molecule in CHAINS if rng.random() < 0.8)
        write(f"{enzyme}.csv", "SMILES,label\n" + rows)
    return cyp_panel, CypPanelSettings(prompt=PROMPT, labels=LABELS, tables={name: f"{name}.csv" for name in enzymes})


def target(write: Callable) -> tuple[Callable, PanelSettings]:
    rng = np.random.default_rng(0)
    clans = [clan(rng, 0.15) for _ in range(4)]
    pairs = [(m, clans[(n + shift) % 4][n % 3]) for shift in (0, 1) for n, m in enumerate(CHAINS[:: 1 + 2 * shift])]
    write("pairs.csv", "SMILES,sequence,label\n" + "".join(f"{m},{p},1\n" for m, p in pairs))
    return target_panel, TargetPanelSettings(prompt=PROMPT, labels=LABELS, tables=["pairs.csv"], family_molecules=20)


def response(write: Callable) -> tuple[Callable, PanelSettings]:
    rng, drugs = np.random.default_rng(0), {f"drug{n}": "C" * n + "O" for n in range(1, 17)}
    rows = "".join(f"LINE{n},{drug},{rng.normal()}\n" for n in range(50) for drug in drugs)
    write("pairs.csv", "line,drug,ic50\n" + rows)
    write("drugs.csv", "drug,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in drugs.items()))
    write("cells.csv", "line,genes\n" + "".join(f"LINE{n},TP53 EGFR GENE{n}\n" for n in range(50)))
    names = {"line": "line", "drug": "drug", "response": "ic50", "compound": "drug", "molecule": "SMILES"}
    return response_panel, ResponsePanelSettings(
        prompt=CELL_PROMPT,
        labels=LABELS,
        **{"responses": "pairs.csv", "drugs": "drugs.csv", "cells": "cells.csv"},
        columns={**names, "cell": "line", "genes": "genes"},
        molecule_pairs=None,
        threshold=0.4,
        training_threshold=0.2,
    )


# panel -> how it is made, and which of its sides is described: perceiving the other one alone
DESCRIBED = {"cyp": (cyp, "partner"), "target": (target, "partner"), "response": (response, "molecule")}


@pytest.fixture(params=DESCRIBED)
def panel(request: pytest.FixtureRequest, write: Callable, ask: Callable) -> tuple[Load, str]:
    """Loads a panel in the brief wording with changed settings; and what to perceive so that records stand for the
    rest."""
    make, perceive = DESCRIBED[request.param]
    function, settings = make(write)

    def load(benchmark_request: BenchmarkRequest | None = None, **changes: object) -> Benchmark:
        limits = {"train_limit": None, "validation_limit": None}
        benchmark: Benchmark = function(
            replace(settings, **{**limits, **changes}), benchmark_request or ask(language="brief")
        )
        return benchmark

    return load, perceive


def record_of(example: Example) -> dict[str, int]:
    """The record of a question in words, as a reader finds it: name -> answer."""
    (line,) = [line for line in "".join(map(str, example.prompt)).split("\n") if ", " in line]
    entries = [entry.rsplit(" Yes", 1) if entry.endswith("Yes") else entry.rsplit(" No way", 1) for entry in _cut(line)]
    assert len({name for name, _ in entries}) == len(entries)
    return {name: int(entry.endswith("Yes")) for (name, _), entry in zip(entries, _cut(line), strict=True)}


def _cut(line: str) -> list[str]:
    return line.partition(": ")[2].split(", ")


def name_of(example: Example) -> str:
    (line,) = [line for line in "".join(map(str, example.prompt)).split("\n") if ", " not in line]
    return line.partition(": ")[2]


def sides(benchmark: Benchmark) -> tuple[tuple[Example, ...], ...]:
    return benchmark.train, benchmark.validation, benchmark.test


@pytest.mark.parametrize("training", ["matched", "every"])
def test_who_reads_record_and_name_knows_the_answer_and_the_record_alone_says_nothing(
    training: str, panel: tuple[Load, str]
) -> None:
    load, _ = panel
    for examples in sides(load(perceive="none", training=training)):
        balance: Counter[tuple[tuple[str, int], ...]] = Counter()
        for example in examples:
            record = record_of(example)
            assert record[name_of(example)] == example.answer and set(record.values()) == {0, 1} and len(record) <= 6
            balance[tuple(record.items())] += 2 * example.answer - 1
        assert balance and set(balance.values()) == {0}


def test_the_questions_have_the_same_ids_and_answers_whatever_is_perceived(panel: tuple[Load, str]) -> None:
    load, _ = panel
    forms = [sides(load(perceive=name)) for name in ("both", "molecule", "partner", "none")]
    keys = [[[(example.id, example.answer) for example in side] for side in form] for form in forms]
    assert keys[0] == keys[1] == keys[2] == keys[3]
    assert all(len(set(side)) == len(side) for side in keys[0])


def test_one_side_is_perceived_and_the_other_in_words(panel: tuple[Load, str]) -> None:
    load, perceive = panel
    both, described, none = (load(perceive=name).test for name in ("both", perceive, "none"))
    for entities, example, text in zip(both, described, none, strict=True):
        (entity,) = example.entities()
        assert entity in entities.entities() and len(entities.entities()) == 2
        assert record_of(replace(example, prompt=tuple(p for p in example.prompt if isinstance(p, str))))
        assert not text.entities() and example.labels == (" No way", " Yes")
    (other,) = {"molecule", "partner"} - {perceive}
    (prompt,) = {load(perceive=other).test[0].prompt}
    assert ", " not in "".join(part for part in prompt if not isinstance(part, Entity))


def test_every_label_that_is_left_out_is_listed_with_the_reason(panel: tuple[Load, str]) -> None:
    load, perceive = panel
    both, described = (load(perceive=name, training="every") for name in ("both", perceive))
    reasons = {reject.row: reject.reason for reject in described.rejects if "other answer" in reject.reason}
    ids = {example.id for example in both.train}
    assert reasons and ids - {example.id for example in described.train} == set(reasons)
    assert (both.test != described.test) and [question.id for question in both.test] == [
        question.id for question in described.test
    ]


def test_a_record_is_the_same_under_a_limit(panel: tuple[Load, str], ask: Callable) -> None:
    load, _ = panel
    prompts = {example.id: example.prompt for example in load(perceive="none").test}
    limited = load(ask(language="brief", limit=8), perceive="none").test
    assert len(limited) == 8 and all(prompts[example.id] == example.prompt for example in limited)


def test_a_panel_without_a_brief_prompt_is_asked_in_english(panel: tuple[Load, str], ask: Callable) -> None:
    load, perceive = panel
    prompt = {"english": (PROMPT if perceive == "partner" else CELL_PROMPT)["english"]}
    assert load(prompt=prompt, perceive="none") == load(ask(), perceive="none")


def test_a_record_has_the_room_that_is_set(panel: tuple[Load, str]) -> None:
    load, _ = panel
    benchmark = load(perceive="none", listed=2)
    assert all(len(record_of(example)) == 2 for side in sides(benchmark) for example in side)


def test_a_drug_of_a_pair_is_its_name(write: Callable, ask: Callable) -> None:
    rng, drugs = np.random.default_rng(0), {f"D{n}": "C" * n + "O" for n in range(1, 31)}
    rows = "".join(f"D{a},D{b},{rng.integers(1, 3)}\n" for a in range(1, 31) for b in range(1, a))
    write("pairs.csv", "a,b,type\n" + rows)
    write("drugs.csv", "id,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in drugs.items()))
    settings = DdiPanelSettings(
        prompt={"brief": "Drug: {molecule_1}\nDrug: {molecule_2}"},
        labels={"english": ["No", "Yes"]},
        pairs="pairs.csv",
        drugs="drugs.csv",
        columns={"drug_1": "a", "drug_2": "b", "type": "type", "drug": "id", "molecule": "SMILES"},
        types=[["1"], ["2"]],
        molecule_pairs=None,
    )
    both, none = (ddi_panel(replace(settings, perceive=name), ask(language="brief")).test for name in ("both", "none"))
    name_of_drug = {smiles: name for name, smiles in drugs.items()}
    for entities, text in zip(both, none, strict=True):
        first, second = (name_of_drug[entity.value] for entity in entities.entities())
        assert text.prompt == (f"Drug: {first}\nDrug: {second}",) and text.labels == (" No", " Yes")
