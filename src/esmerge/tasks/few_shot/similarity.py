"""Similarity of questions to training examples: their entities as sets of features, compared by Jaccard similarity.

The sets are a molecule's Morgan bits (Jaccard similarity is Tanimoto's then), a protein's overlapping triples of
residues, and the words of anything else: a cell's genes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Example
from esmerge.data.molecules import fingerprint_bits

K = 3  # residues of a k-mer
DIGITS = 12  # a similarity is rounded to these, so that the order in which means were added up decides nothing


@dataclass(frozen=True)
class EntityFeatures:
    """The entities of one modality.

    Attributes:
        features: (values, F), 1 where a value has a feature.
        questions: (questions, n) rows of ``features``, for n entities of this modality in a question.
        train: (training examples, n), likewise.
    """

    features: csr_matrix
    questions: NDArray[np.int64]
    train: NDArray[np.int64]

    def scores(self) -> NDArray[np.float64]:
        """Mean similarity of the entities under the best pairing of theirs; (questions, training examples)."""
        question_values, row = np.unique(self.questions, return_inverse=True)
        train_values, column = np.unique(self.train, return_inverse=True)
        pairs = jaccard(self.features[question_values], self.features[train_values])
        rows, columns = row.reshape(self.questions.shape).T, column.reshape(self.train.shape).T
        best = np.zeros((len(self.questions), len(self.train)))
        for order in permutations(columns):
            total = sum(pairs[np.ix_(left, right)] for left, right in zip(rows, order, strict=True))
            np.maximum(best, total / len(rows), out=best)
        return best.round(DIGITS)

    def equal(self) -> NDArray[np.float64]:
        """1 where the entities are the same, in any order; (questions, training examples)."""
        questions, train = np.sort(self.questions, axis=1), np.sort(self.train, axis=1)
        is_equal: NDArray[np.float64] = (questions[:, None] == train).all(axis=2).astype(np.float64)
        return is_equal


@dataclass(frozen=True)
class Similarity:
    """Questions beside the training examples that could be shown before them.

    Attributes:
        questions, train: examples that hold the same modalities, equally often.
        entities: modality -> the features of its entities.
        groups: the groups of all examples.
        seed: of random choices.
    """

    questions: tuple[Example, ...]
    train: tuple[Example, ...]
    entities: Mapping[str, EntityFeatures]
    groups: frozenset[str]
    seed: int

    def subset(self, rows: slice) -> Similarity:
        """The same for some of the questions."""
        entities = {
            modality: replace(features, questions=features.questions[rows])
            for modality, features in self.entities.items()
        }
        return replace(self, questions=self.questions[rows], entities=entities)

    def count(self, modality: str) -> int:
        """Entities of this modality in a question."""
        return self.entities[modality].questions.shape[1] if modality in self.entities else 0

    def count_distinct(self, modality: str) -> int:
        """Different entities of this modality in all questions and training examples."""
        return int(self.entities[modality].features.shape[0])

    def scores(self, modality: str) -> NDArray[np.float64]:
        """Mean similarity of this modality's entities; (questions, training examples)."""
        return self.entities[modality].scores()

    def equal(self, modality: str) -> NDArray[np.float64]:
        """1 where this modality's entities are the same, else 0; (questions, training examples)."""
        return self.entities[modality].equal()

    def require(self, rule: str, **minimum: int) -> None:
        """Raise ``ConfigError`` unless a question holds at least so many entities of each modality."""
        for modality, count in minimum.items():
            if self.count(modality) < count:
                counts = ", ".join(f"{self.count(name)} {name}" for name in self.entities) or "no entities"
                raise ConfigError(
                    f"benchmark.shot_choice={rule} needs {count} {modality} in a question, but these hold {counts}: "
                    "use shot_choice=auto"
                )


def compare_examples(questions: Sequence[Example], train: Sequence[Example], seed: int) -> Similarity:
    """Put questions beside training examples.

    Raises:
        InputError: an example holds other modalities than the first, or another number of entities; an invalid SMILES.
    """
    examples = (*questions, *train)
    entities = {modality: _features(modality, questions, train) for modality in _modality_counts(examples)}
    groups = frozenset(example.group for example in examples)
    return Similarity(tuple(questions), tuple(train), entities, groups, seed)


def jaccard(left: csr_matrix, right: csr_matrix) -> NDArray[np.float64]:
    """Shared features over all features of each pair of rows of two 0/1 matrices, neither of them empty."""
    shared = (left @ right.T).toarray()
    sizes = np.asarray(left.sum(axis=1)) + np.asarray(right.sum(axis=1)).T
    return np.asarray(shared / (sizes - shared))


def kmer_set(sequence: str) -> Collection[str]:
    """The k-mers of a chain; a chain shorter than k is its only one."""
    return {sequence[start : start + K] for start in range(len(sequence) - K + 1)} or {sequence}


def word_set(value: str) -> Collection[str]:
    """What blanks separate, e.g. the genes of a cell."""
    return set(value.split()) or {value}


FEATURES: dict[str, Callable[[str], Collection[object]]] = {"molecule": fingerprint_bits, "protein": kmer_set}


def _modality_counts(examples: Sequence[Example]) -> Counter[str]:
    """How many entities of each modality every example holds."""
    counts = [Counter(entity.modality for entity in example.entities()) for example in examples]
    for example, count in zip(examples, counts, strict=True):
        if count != counts[0]:
            raise InputError(
                f"example {example.id} holds {dict(count)}, but {examples[0].id} holds {dict(counts[0])}: examples "
                "can only be compared if each holds the same modalities; use benchmark.shots=0"
            )
    return counts[0]


def _features(modality: str, questions: Sequence[Example], train: Sequence[Example]) -> EntityFeatures:
    sides = [
        [[entity.value for entity in example.entities(modality)] for example in examples]
        for examples in (questions, train)
    ]
    values = sorted({value for side in sides for entities in side for value in entities})
    row_of = {value: row for row, value in enumerate(values)}
    vectorizer = CountVectorizer(analyzer=FEATURES.get(modality, word_set), binary=True, dtype=np.int32)
    features = vectorizer.fit_transform(values)
    question_rows, train_rows = (
        np.array([[row_of[value] for value in entities] for entities in side]) for side in sides
    )
    return EntityFeatures(features, question_rows, train_rows)
