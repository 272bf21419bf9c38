from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.tasks.wording import LABELS

from esmerge.core.errors import ConfigError
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.ddi_panel import DdiPanelSettings, ddi_panel

DRUGS = {f"D{n}": "C" * n + "O" for n in range(1, 41)}
SETTINGS = DdiPanelSettings(
    prompt={"english": "{molecule_1} and {molecule_2}. Final answer:"},
    labels=LABELS,
    pairs="pairs.csv",
    drugs="drugs.csv",
    columns={"drug_1": "a", "drug_2": "b", "type": "type", "drug": "id", "molecule": "SMILES"},
    types=[["1", "2"], ["3"]],
    molecule_pairs=None,
    train_limit=None,
)


@pytest.fixture
def types(write: Callable) -> dict[frozenset[str], str]:
    """SMILES of two drugs -> their type, of pairs in either order."""
    rng = np.random.default_rng(0)
    names = list(DRUGS)
    rows = [(a, b, str(rng.integers(1, 5))) for i, a in enumerate(names) for b in names[:i]]
    rows = [(b, a, kind) if rng.random() < 0.5 else (a, b, kind) for a, b, kind in rows]
    write("pairs.csv", "a,b,type\n" + "".join(f"{a},{b},{kind}\n" for a, b, kind in rows))
    write("drugs.csv", "id,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in DRUGS.items()))
    return {frozenset((DRUGS[a], DRUGS[b])): kind for a, b, kind in rows}


def test_either_drug_has_as_many_yes_as_no(types: dict, ask: Callable[..., BenchmarkRequest]) -> None:
    benchmark = ddi_panel(SETTINGS, ask())
    for side in (benchmark.train, benchmark.test):
        balance: dict[tuple[int, str], int] = {}
        for example in side:
            entities = example.entities("molecule")
            assert (types[frozenset(entity.value for entity in entities)] == "3") == example.answer
            for position, entity in enumerate(entities):
                balance[position, entity.value] = balance.get((position, entity.value), 0) + 2 * example.answer - 1
        assert set(balance.values()) == {0} and len(side) > 10


def test_types_of_neither_answer_are_left_out_with_the_reason(
    types: dict, ask: Callable[..., BenchmarkRequest]
) -> None:
    benchmark = ddi_panel(replace(SETTINGS, training="every"), ask())
    reasons = [reject.reason for reject in benchmark.rejects]
    assert reasons.count("its type is of neither answer") == sum(kind == "4" for kind in types.values())


@pytest.mark.parametrize(("perceive", "position"), [("molecule", 1), ("partner", 0)])
def test_in_words_a_drug_is_its_name(
    perceive: str, position: int, types: dict, ask: Callable[..., BenchmarkRequest]
) -> None:
    both, named = (ddi_panel(replace(SETTINGS, perceive=name), ask()).test for name in ("both", perceive))
    name_of = {smiles: name for name, smiles in DRUGS.items()}
    for entities, text in zip(both, named, strict=True):
        drugs = [entity.value for entity in entities.entities()]
        assert [entity.value for entity in text.entities()] == [drugs[1 - position]]
        texts = "".join(segment for segment in text.prompt if isinstance(segment, str))
        assert name_of[drugs[position]] in texts.replace(".", " ").split()


@pytest.mark.parametrize("wrong", [[["1"]], [["1"], []], [["1", "2"], ["2"]]])
def test_types_that_do_not_fit_are_refused(wrong: list[list[str]]) -> None:
    with pytest.raises(ConfigError, match="expected two lists of types, no type in both"):
        replace(SETTINGS, types=wrong)
