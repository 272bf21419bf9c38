"""Features of examples: against RDKit and words counted by hand, and blind to the order of entities."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.baselines.toys import ALCOHOLS, AMINES, benchmark, by_drug, example

from esmerge.baselines.ops.features import design_matrices, entity_table
from esmerge.baselines.ops.incidence import incidence
from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity, Example
from esmerge.data import molecules as chemistry
from esmerge.data.molecules import BITS, fingerprint

SMILES = ("CCO", "CCN", "c1ccccc1", "CC(=O)O")


def drugs(name: str, *values: str, answer: int = 0) -> Example:
    return example(name, [Entity("molecule", value) for value in values], answer)


def proteins(name: str, *values: str) -> Example:
    return example(name, [Entity("protein", value) for value in values], 0)


def dense(train: list[Example], test: list[Example], modality: str, spread: bool = True) -> list[np.ndarray]:
    return [side.toarray() for side in design_matrices(benchmark(train, test), (modality,), spread)]


def test_one_drug_is_its_morgan_fingerprint() -> None:
    train, test = dense([drugs("a", "CCO")], [drugs("b", "c1ccccc1O")], "molecule")
    assert np.array_equal(train, [fingerprint("CCO")]) and np.array_equal(test, [fingerprint("c1ccccc1O")])


def test_two_drugs_are_their_sum_and_absolute_difference() -> None:
    _, (row,) = dense([drugs("a", "CCO", "CCN")], [drugs("b", "CC(=O)O", "CCN")], "molecule")
    first, second = fingerprint("CC(=O)O"), fingerprint("CCN")
    assert np.array_equal(row, np.concatenate([first + second, abs(first - second)]))


def test_without_spread_there_are_sums_alone() -> None:
    _, (row,) = dense([drugs("a", "CCO", "CCN")], [drugs("b", "CCO", "CCO")], "molecule", spread=False)
    assert np.array_equal(row, 2 * fingerprint("CCO"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SMILES), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_any_number_of_drugs_in_any_order(values: list[str], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    train, test = dense([drugs("a", *values), drugs("c", *SMILES)], [drugs("b", *shuffled)], "molecule")
    assert np.array_equal(train[0], test[0])
    bits = np.array([fingerprint(value) for value in values])
    assert np.array_equal(test[0], np.concatenate([bits.sum(axis=0), bits.max(axis=0) - bits.min(axis=0)]))


def test_proteins_are_counts_of_the_triples_that_training_holds() -> None:
    train, test = dense([proteins("a", "MKMKM"), proteins("b", "AAAA")], [proteins("c", "AAAMKMWWW")], "protein")
    triples = ["AAA", "KMK", "MKM"]
    counted = [Counter(text[i : i + 3] for i in range(len(text) - 2)) for text in ("MKMKM", "AAAA", "AAAMKMWWW")]
    expected = np.array([[count[triple] for triple in triples] for count in counted])
    assert np.array_equal(train, expected[:2]) and np.array_equal(test, expected[2:])


def test_two_proteins_share_no_triple_across_their_ends() -> None:
    train, test = dense([proteins("a", "MKM", "AAA")], [proteins("b", "AAA", "MKM")], "protein", spread=False)
    assert train.tolist() == test.tolist() == [[1.0, 1.0]]


def test_genes_are_indicators_that_heed_case_and_hyphens() -> None:
    cells = [example(str(n), [Entity("cell", genes)], 0) for n, genes in enumerate(["TP53 HLA-A", "tp53 NEW"])]
    train, test = dense(cells[:1], cells[1:], "cell")
    assert train.tolist() == [[1.0, 1.0]] and test.tolist() == [[0.0, 0.0]]


def test_modalities_stand_side_by_side() -> None:
    dataset = by_drug()
    combined, drug, protein = (
        design_matrices(dataset, chosen)[0] for chosen in (("molecule", "protein"), ("molecule",), ("protein",))
    )
    assert drug.shape[1] == BITS and combined.shape[1] == BITS + protein.shape[1]
    assert np.array_equal(combined.toarray(), np.hstack([drug.toarray(), protein.toarray()]))


def test_an_entity_is_described_once_for_all_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    entity_table.cache_clear()
    chemistry.fingerprint_bits.cache_clear()
    dataset = by_drug()
    first = design_matrices(dataset, ("molecule", "protein"))
    usage = chemistry.fingerprint_bits.cache_info()
    assert usage.misses == len(ALCOHOLS + AMINES) and usage.hits == 0
    second = design_matrices(dataset, ("protein", "molecule"))
    assert chemistry.fingerprint_bits.cache_info() == usage and entity_table.cache_info().hits == 2
    assert first[1].sum() == second[1].sum()


def test_a_kept_table_is_not_what_a_floor_gets() -> None:
    dataset = by_drug()
    first = design_matrices(dataset, ("molecule",))[0]
    expected = first.toarray()
    first.data[:] = 7.0
    assert np.array_equal(design_matrices(dataset, ("molecule",))[0].toarray(), expected)


def test_incidence_counts() -> None:
    assert incidence([[0, 2, 2], [], [1]], 3).toarray().tolist() == [[1, 0, 2], [0, 0, 0], [0, 1, 0]]


def test_an_example_of_another_form_is_named() -> None:
    dataset = by_drug()
    odd = replace(dataset.train[3], prompt=dataset.train[3].prompt[:1])
    with pytest.raises(InputError, match=f"example '{odd.id}' holds no protein"):
        design_matrices(replace(dataset, train=(*dataset.train, odd)), ("protein",))
