"""Every rule beside a plain reading of its definition: loops, Python sets and RDKit's own similarity."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.DataStructs import TanimotoSimilarity
from tests.tasks.few_shot.examples import FORMS, draw, example

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Example
from esmerge.tasks.few_shot.api import SHOT_RULES
from esmerge.tasks.few_shot.choose import choose_shots
from esmerge.tasks.few_shot.rules.auto import rule
from esmerge.tasks.few_shot.similarity import compare_examples

MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


def tanimoto(first: str, second: str) -> float:
    return TanimotoSimilarity(*(MORGAN.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in (first, second)))


def sets(first: set, second: set) -> float:
    return len(first & second) / len(first | second)


def triples(chain: str) -> set[str]:
    return {chain[i : i + 3] for i in range(len(chain) - 2)} or {chain}


def chains(first: str, second: str) -> float:
    return sets(triples(first), triples(second))


def genes(first: str, second: str) -> float:
    return sets(set(first.split()), set(second.split()))


OWN = {"molecule": tanimoto, "protein": chains, "cell": genes}


def values(instance: Example, modality: str) -> list[str]:
    return [entity.value for entity in instance.entities(modality)]


def near(first: Example, second: Example, modality: str) -> float:
    first_values, second_values = values(first, modality), values(second, modality)
    means = [
        sum(OWN[modality](a, b) for a, b in zip(first_values, order, strict=True)) / len(first_values)
        for order in permutations(second_values)
    ]
    return round(max(means), 12)


def same(first: Example, second: Example, modality: str) -> bool:
    return sorted(values(first, modality)) == sorted(values(second, modality))


def everything(first: Example, second: Example) -> tuple[float]:
    modalities = sorted({entity.modality for entity in first.entities()})
    return (sum(near(first, second, modality) for modality in modalities) / len(modalities),)


ORACLES = {
    "nearest_molecule": lambda a, b: (near(a, b, "molecule"),),
    "same_protein": lambda a, b: (same(a, b, "protein"), near(a, b, "protein"), near(a, b, "molecule")),
    "same_cell": lambda a, b: (same(a, b, "cell"), near(a, b, "cell"), near(a, b, "molecule")),
    "nearest_pair": lambda a, b: (
        (same(a, b, "cell"), near(a, b, "molecule"), near(a, b, "cell"))
        if a.entities("cell")
        else (near(a, b, "molecule"),)
    ),
    "nearest_entity": everything,
}
NEEDED = {
    "nearest_molecule": {"molecule": 1},
    "same_protein": {"molecule": 1, "protein": 1},
    "same_cell": {"molecule": 1, "cell": 1},
    "nearest_pair": {"molecule": 2},
    "nearest_entity": {},
}
AUTO = dict(
    zip(
        FORMS,
        ("nearest_entity", "nearest_entity", "nearest_entity", "same_protein", "same_cell", "nearest_pair")
        + ("nearest_pair", "nearest_entity", "nearest_pair"),
        strict=True,
    )
)


def fits(choice: str, form: tuple[str, ...]) -> bool:
    return all(form.count(modality) >= count for modality, count in NEEDED[choice].items())


def expected(choice: str, question: Example, train: tuple[Example, ...], count: int) -> tuple[Example, ...]:
    def worth(candidate: Example) -> tuple:
        return tuple(-float(key) for key in ORACLES[choice](question, candidate)), candidate.id

    return tuple(reversed(sorted(train, key=worth)[:count]))


CASES = [(choice, form) for choice in ORACLES for form in FORMS if fits(choice, form)]


@pytest.mark.parametrize(
    ("choice", "form"), CASES, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 9))
def test_a_rule_takes_what_its_definition_says(choice: str, form: tuple[str, ...], seed: int, count: int) -> None:
    questions, train = draw(form, 3, seed, "q"), draw(form, 25, seed + 1, "t")
    chosen = choose_shots(questions, train, count, choice, 0)
    assert chosen == tuple(expected(choice, question, train, count) for question in questions)


@pytest.mark.parametrize("form", FORMS, ids="+".join)
def test_auto_is_the_rule_of_the_form(form: tuple[str, ...]) -> None:
    questions, train = draw(form, 5, 1, "q"), draw(form, 30, 2, "t")
    assert rule(compare_examples(questions, train, 0)) == AUTO[form]
    assert choose_shots(questions, train, 4, "auto", 0) == choose_shots(questions, train, 4, AUTO[form], 0)


FORM = ("molecule", "protein")


@pytest.mark.parametrize(
    ("proteins", "groups", "chosen"),
    [
        (("MKTAY", "MKTAY"), ("", ""), "nearest_molecule"),
        (("MKTAY", "MKTAYI"), ("CYP2D6", "CYP2D6"), "nearest_molecule"),
        (("MKTAY", "MKTAYI"), ("CYP2D6", "CYP3A4"), "same_protein"),
        (("MKTAY", "MKTAYI"), ("", ""), "same_protein"),
    ],
)
def test_an_enzyme_is_one_protein_or_one_named_group(
    proteins: tuple[str, str], groups: tuple[str, str], chosen: str
) -> None:
    first, second = (example(g + p, FORM, ("CCO", p), group=g) for p, g in zip(proteins, groups, strict=True))
    assert rule(compare_examples([first], [second], 0)) == chosen


def test_a_pair_is_compared_in_both_orders() -> None:
    form = ("molecule", "molecule", "cell")
    question = example("q", form, ("CCO", "c1ccccc1", "CD4"))
    turned, close = example("b", form, ("c1ccccc1", "CCO", "CD4")), example("a", form, ("CCO", "Cc1ccccc1", "CD4"))
    elsewhere = example("c", form, ("CCO", "c1ccccc1", "ALB"))
    (shots,) = choose_shots((question,), (turned, close, elsewhere), 3, "nearest_pair", 0)
    assert [shot.id for shot in shots] == ["c", "a", "b"], "the same cell comes before the same pair"


def test_the_same_protein_comes_before_another_with_the_same_kmers() -> None:
    question = example("q", FORM, ("CCO", "GAVLIGAVLI"))
    longer = example("a", FORM, ("CCO", "GAVLIGAVLIGAVLI"))  # the same set of triples
    own = example("b", FORM, ("c1ccccc1", "GAVLIGAVLI"))
    (shots,) = choose_shots((question,), (longer, own), 2, "same_protein", 0)
    assert [shot.id for shot in shots] == ["a", "b"]


@pytest.mark.parametrize(
    ("choice", "form", "message"),
    [
        (
            "same_protein",
            ("molecule", "cell"),
            "same_protein needs 1 protein in a question, but these hold 1 molecule, 1 c",
        ),
        ("same_cell", ("cell",), "same_cell needs 1 molecule"),
        ("nearest_pair", ("molecule", "protein"), "nearest_pair needs 2 molecule"),
        ("nearest_molecule", ("protein",), "nearest_molecule needs 1 molecule in a question, but these hold 1 protein"),
        ("nearest_entity", (), "hold no entities"),
    ],
)
def test_a_rule_that_does_not_fit_says_what_it_needs(choice: str, form: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_shots(draw(form, 1, 0, "q"), draw(form, 3, 1, "t"), 1, choice, 0)


def test_random_choices_differ_between_questions_and_seeds_and_use_everything() -> None:
    questions, train = draw(("cell",), 60, 0, "q"), draw(("cell",), 10, 1, "t")
    chosen = choose_shots(questions, train, 3, "random", 0)
    assert len(set(chosen)) > 40 and chosen != choose_shots(questions, train, 3, "random", 1)
    counts = np.bincount([train.index(shot) for shots in chosen for shot in shots], minlength=10)
    assert counts.min() > 5 and counts.sum() == 180
    assert chosen[7:9] == choose_shots(questions[7:9], train, 3, "random", 0), "a draw belongs to its question"


def test_every_rule_is_covered() -> None:
    assert set(SHOT_RULES.names()) == {*ORACLES, "auto", "random"}
