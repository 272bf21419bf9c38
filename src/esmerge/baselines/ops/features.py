"""Examples as sparse numbers: Morgan fingerprints, protein 3-mer counts and gene indicators.

An entity is described once, however many examples hold it and however many floors look at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from itertools import chain

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import CountVectorizer

from esmerge.baselines.ops.incidence import Rows, incidence
from esmerge.baselines.ops.modalities import DRUG
from esmerge.core.errors import InputError
from esmerge.core.prompts import Benchmark, Example
from esmerge.data.molecules import BITS, fingerprint_bits

# How a modality becomes words: amino acids as overlapping triples, genes (and any other modality) as they are.
TRIPLES: Mapping[str, object] = {"analyzer": "char", "ngram_range": (3, 3), "lowercase": False}
BLANKS: Mapping[str, object] = {"token_pattern": r"\S+", "lowercase": False}
WORDS: Mapping[str, Mapping[str, object]] = {"protein": TRIPLES}
TABLES = 64  # entity tables kept: those of a suite, so that its floors share them


def design_matrices(
    benchmark: Benchmark, modalities: Sequence[str], spread: bool = False
) -> tuple[csr_matrix, csr_matrix]:
    """Features of the training and of the test split, side by side for each modality.

    Several entities of one modality are added up and, with ``spread``, also told apart by their largest less their
    smallest value in each feature (for two, the absolute difference). Neither depends on their order.

    Args:
        modalities: in the order of their columns.
        spread: whether the differences stand beside the sums, where an example holds several entities.

    Returns:
        (n, F) each. Words that training does not hold have no column.

    Raises:
        InputError: an example without an entity of one of the modalities.
    """
    blocks = [_block(benchmark, modality, spread) for modality in modalities]
    train, test = zip(*blocks, strict=True)
    return _side_by_side(train), _side_by_side(test)


@lru_cache(maxsize=TABLES)
def entity_table(modality: str, train: tuple[str, ...], others: tuple[str, ...]) -> csr_matrix:
    """One row per entity, those of training first: (len(train) + len(others), F). Not to be changed in place."""
    if modality == DRUG:
        return incidence([fingerprint_bits(smiles) for smiles in (*train, *others)], BITS)
    vectorizer = CountVectorizer(**WORDS.get(modality, BLANKS), dtype=np.float64)
    counts = vectorizer.fit_transform(train)
    return vstack([counts, vectorizer.transform(others)]).tocsr() if others else counts


def _block(benchmark: Benchmark, modality: str, spread: bool) -> tuple[csr_matrix, csr_matrix]:
    """One modality's columns of the training and the test split."""
    train, test = (_values(examples, modality) for examples in (benchmark.train, benchmark.test))
    numbers = {value: number for number, value in enumerate(dict.fromkeys(chain.from_iterable([*train, *test])))}
    in_training = len(set(chain.from_iterable(train)))
    table = entity_table(modality, tuple(numbers)[:in_training], tuple(numbers)[in_training:])
    with_spread = spread and max(map(len, [*train, *test])) > 1
    train_block, test_block = (_combine(table, _row_numbers(rows, numbers), with_spread) for rows in (train, test))
    return train_block, test_block


def _side_by_side(blocks: Sequence[csr_matrix]) -> csr_matrix:
    features = hstack(blocks).tocsr()
    features.sort_indices()  # so that sums, and with them the last digits of a fit, do not depend on how it was made
    return features


def _combine(table: csr_matrix, rows: Rows, with_spread: bool) -> csr_matrix:
    total = incidence(rows, table.shape[0]) @ table
    return hstack([total, _spread(table, rows)]).tocsr() if with_spread else total


def _spread(table: csr_matrix, rows: Rows) -> csr_matrix:
    """Largest less smallest value of each feature among the entities of each row."""
    width = max(map(len, rows))
    filled = np.array([[*row, *[row[0]] * (width - len(row))] for row in rows])  # a repeated entity changes neither
    slots = [table[filled[:, slot]] for slot in range(width)]
    return reduce(lambda a, b: a.maximum(b), slots) - reduce(lambda a, b: a.minimum(b), slots)


def _row_numbers(rows: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> Rows:
    """Rows of the entity table that each example adds up."""
    return [[numbers[value] for value in row] for row in rows]


def _values(examples: Sequence[Example], modality: str) -> list[list[str]]:
    rows = [[entity.value for entity in example.entities(modality)] for example in examples]
    for example, row in zip(examples, rows, strict=True):
        if not row:
            raise InputError(
                f"example {example.id!r} holds no {modality}, but the first test example does: expected one form of "
                "question throughout a benchmark"
            )
    return rows
