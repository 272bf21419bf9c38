"""How like questions are to training examples: what they hold as sets of features, compared by Jaccard similarity.

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
DIGITS = 12  # kept of a similarity, so that the order in which means were added up decides nothing


@dataclass(frozen=True)
class Traits:
    """The entities of one modality.

    Attributes:
        features: (values, F), 1 where a value has a feature.
        asked: (questions, n) rows of ``features``, for n entities of this modality in a question.
        known: (training examples, n), likewise.
    """

    features: csr_matrix
    asked: NDArray[np.int64]
    known: NDArray[np.int64]

    def similarity(self) -> NDArray[np.float64]:
        """Mean similarity of the entities, paired with each other as suits them best; (questions, training)."""
        asked, row = np.unique(self.asked, return_inverse=True)
        known, column = np.unique(self.known, return_inverse=True)
        pairs = jaccard(self.features[asked], self.features[known])
        rows, columns = row.reshape(self.asked.shape).T, column.reshape(self.known.shape).T
        best = np.zeros((len(self.asked), len(self.known)))
        for order in permutations(columns):
            total = sum(pairs[np.ix_(ours, theirs)] for ours, theirs in zip(rows, order, strict=True))
            np.maximum(best, total / len(rows), out=best)
        return best.round(DIGITS)

    def same(self) -> NDArray[np.float64]:
        """1 where the entities are the same, in any order; (questions, training)."""
        asked, known = np.sort(self.asked, axis=1), np.sort(self.known, axis=1)
        return (asked[:, None] == known).all(axis=2).astype(np.float64)


@dataclass(frozen=True)
class Likeness:
    """Questions beside the training examples that could be shown before them.

    Attributes:
        questions, train: examples that hold the same modalities, equally often.
        traits: modality -> the entities of these.
        groups: the groups of all examples.
        seed: of random choices.
    """

    questions: tuple[Example, ...]
    train: tuple[Example, ...]
    traits: Mapping[str, Traits]
    groups: frozenset[str]
    seed: int

    def part(self, rows: slice) -> Likeness:
        """The same for some of the questions."""
        traits = {name: replace(one, asked=one.asked[rows]) for name, one in self.traits.items()}
        return replace(self, questions=self.questions[rows], traits=traits)

    def count(self, modality: str) -> int:
        """Entities of this modality in a question."""
        return self.traits[modality].asked.shape[1] if modality in self.traits else 0

    def values(self, modality: str) -> int:
        """Different entities of this modality in all questions and training examples."""
        return int(self.traits[modality].features.shape[0])

    def similarity(self, modality: str) -> NDArray[np.float64]:
        return self.traits[modality].similarity()

    def same(self, modality: str) -> NDArray[np.float64]:
        return self.traits[modality].same()

    def require(self, choice: str, **least: int) -> None:
        """Raise ``ConfigError`` unless a question holds at least so many entities of each modality."""
        for modality, count in least.items():
            if self.count(modality) < count:
                held = ", ".join(f"{self.count(name)} {name}" for name in self.traits) or "no entities"
                raise ConfigError(
                    f"benchmark.shot_choice={choice} needs {count} {modality} in a question, but these hold {held}: "
                    "use shot_choice=auto"
                )


def compare(questions: Sequence[Example], train: Sequence[Example], seed: int) -> Likeness:
    """Put questions beside training examples.

    Raises:
        InputError: an example holds other modalities than the first, or another number of entities; an invalid SMILES.
    """
    examples = (*questions, *train)
    form = _form(examples)
    traits = {modality: _traits(modality, questions, train) for modality in form}
    return Likeness(tuple(questions), tuple(train), traits, frozenset(one.group for one in examples), seed)


def jaccard(one: csr_matrix, other: csr_matrix) -> NDArray[np.float64]:
    """Shared features over all features of each pair of rows of two 0/1 matrices, neither of them empty."""
    shared = (one @ other.T).toarray()
    sizes = np.asarray(one.sum(axis=1)) + np.asarray(other.sum(axis=1)).T
    return np.asarray(shared / (sizes - shared))


def kmers(sequence: str) -> Collection[str]:
    """The k-mers of a chain; a chain shorter than k is its own."""
    return {sequence[start : start + K] for start in range(len(sequence) - K + 1)} or {sequence}


def words(value: str) -> Collection[str]:
    """What blanks separate, e.g. the genes of a cell."""
    return set(value.split()) or {value}


FEATURES: dict[str, Callable[[str], Collection[object]]] = {"molecule": fingerprint_bits, "protein": kmers}


def _form(examples: Sequence[Example]) -> Counter[str]:
    """How many entities of each modality every example holds."""
    forms = [Counter(entity.modality for entity in example.entities()) for example in examples]
    for example, form in zip(examples, forms, strict=True):
        if form != forms[0]:
            raise InputError(
                f"example {example.id} holds {dict(form)}, but {examples[0].id} holds {dict(forms[0])}: examples can "
                "only be compared if each holds the same modalities; use benchmark.shots=0"
            )
    return forms[0]


def _traits(modality: str, questions: Sequence[Example], train: Sequence[Example]) -> Traits:
    sides = [[[entity.value for entity in one.entities(modality)] for one in side] for side in (questions, train)]
    values = sorted({value for side in sides for held in side for value in held})
    place = {value: row for row, value in enumerate(values)}
    vectorizer = CountVectorizer(analyzer=FEATURES.get(modality, words), binary=True, dtype=np.int32)
    features = vectorizer.fit_transform(values)
    asked, known = (np.array([[place[value] for value in held] for held in side]) for side in sides)
    return Traits(features, asked, known)
