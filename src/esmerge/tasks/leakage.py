"""What a test split may owe to its training split: shared molecules, proteins, cells, scaffolds and questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit.DataStructs import BulkTanimotoSimilarity
from sklearn.metrics import roc_auc_score

from esmerge.core.errors import InputError
from esmerge.core.progress import progress
from esmerge.core.prompts import Benchmark, Example
from esmerge.data.molecules import bit_vector, scaffold

DRUG, SCAFFOLD, QUESTION = "molecule", "scaffold", "whole question"
CLOSE = 0.9  # Tanimoto similarity above which two molecules are close analogues
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Overlap:
    """How much of one kind of thing the test split shares with training.

    Attributes:
        what: a modality, ``scaffold``, or ``whole question`` (all entities of a question, molecules in any order).
        train, test: distinct ones in either split; two proteins are one where their sequences are.
        shared: distinct ones of the test split that training holds.
        some, every: shares of the test examples that hold at least one such, and nothing but such.
    """

    what: str
    train: int
    test: int
    shared: int
    some: float
    every: float


@dataclass(frozen=True)
class Nearest:
    """Tanimoto similarity of each distinct test molecule to the training molecule nearest to it (Morgan, 2048 bits).

    Attributes:
        molecules: distinct molecules in the test split.
        equal, close: shares of them with a similarity of 1, and above ``CLOSE``.
        quantiles: one per place in ``QUANTILES``.
    """

    molecules: int
    equal: float
    close: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Through:
    """How well the training answers of the same entities, averaged, tell the answers of test examples.

    Attributes:
        modality: whose training answers are asked.
        seen: test examples with an entity of that modality that training holds; the numbers are over these.
        auroc: of the mean training label; NaN where there are more than two labels or one class only.
        accuracy: of the label most frequent among them.
        majority: accuracy of the label most frequent in all of training.
    """

    modality: str
    seen: int
    auroc: float
    accuracy: float
    majority: float


@dataclass(frozen=True)
class Leakage:
    """The report on one benchmark; ``nearest`` is None where no question holds a molecule."""

    benchmark: str
    overlaps: tuple[Overlap, ...]
    nearest: Nearest | None
    through: tuple[Through, ...]


def measure(benchmark: Benchmark) -> Leakage:
    """Compare the test split of a benchmark with its training split.

    Raises:
        InputError: either split is empty, or a molecule is not valid SMILES.
    """
    for side, examples in (("training", benchmark.train), ("test", benchmark.test)):
        if not examples:
            raise InputError(f"benchmark {benchmark.name!r} has no {side} examples: there is nothing to compare")
    modalities = list(dict.fromkeys(entity.modality for entity in benchmark.test[0].entities()))
    train, test = (_entities(examples) for examples in (benchmark.train, benchmark.test))
    parts = [(modality, _of(train, modality), _of(test, modality)) for modality in modalities]
    overlaps = [overlap(modality, one, other) for modality, one, other in parts]
    nearest = None
    if DRUG in modalities:
        drugs, asked = _of(train, DRUG), _of(test, DRUG)
        overlaps.append(overlap(SCAFFOLD, _scaffolds(drugs), _scaffolds(asked)))
        title = f"nearest molecules of {benchmark.name}"
        nearest = _nearest(similarities(asked["value"].unique(), drugs["value"].unique(), title))
    overlaps.append(overlap(QUESTION, _questions(benchmark.train), _questions(benchmark.test)))
    labels = len(benchmark.labels)
    through = [_through(modality, one, other, labels) for modality, one, other in parts]
    return Leakage(benchmark.name, tuple(overlaps), nearest, tuple(through))


def overlap(what: str, train: pd.DataFrame, test: pd.DataFrame) -> Overlap:
    """Compare two splits; a row of a frame is a ``value`` in an ``example``."""
    known, values = train["value"].unique(), pd.Series(test["value"].unique())
    seen = test["value"].isin(known).groupby(test["example"])
    shared = int(values.isin(known).sum())
    return Overlap(what, len(known), len(values), shared, float(seen.any().mean()), float(seen.all().mean()))


def similarities(asked: Iterable[str], known: Iterable[str], title: str) -> NDArray[np.float64]:
    """Largest Tanimoto similarity of each asked SMILES to a known one, (asked,); ``title`` heads the progress bar."""
    asked = list(asked)
    vectors = [bit_vector(smiles) for smiles in known]
    found = np.zeros(len(asked))
    with progress(title, len(asked)) as bar:
        for place, smiles in enumerate(asked):
            found[place] = max(BulkTanimotoSimilarity(bit_vector(smiles), vectors))
            bar.update()
    return found


def answer_shares(train: pd.DataFrame, test: pd.DataFrame, labels: int) -> pd.DataFrame:
    """What training answered where it held the same entity: a share per label, averaged over an example's entities.

    Args:
        train, test: a row per entity, with ``example``, ``value`` and ``answer``.

    Returns:
        (seen test examples, labels), indexed by example; examples of which training has seen no entity are absent.
    """
    shares = pd.crosstab(train["value"], train["answer"], normalize="index").reindex(
        columns=range(labels), fill_value=0
    )
    seen = test[test["value"].isin(shares.index)]
    rows = shares.loc[seen["value"]].set_axis(seen["example"].to_numpy())
    return rows.groupby(level=0).mean()


def _through(modality: str, train: pd.DataFrame, test: pd.DataFrame, labels: int) -> Through:
    shares = answer_shares(train, test, labels)
    if shares.empty:
        return Through(modality, 0, np.nan, np.nan, np.nan)
    truth = test.groupby("example")["answer"].first().loc[shares.index].to_numpy()
    scored = labels == 2 and len(set(truth)) == 2
    auroc = float(roc_auc_score(truth, shares[1])) if scored else np.nan
    commonest = train.groupby("example")["answer"].first().mode()[0]
    accuracy = float((shares.to_numpy().argmax(axis=1) == truth).mean())
    return Through(modality, len(shares), auroc, accuracy, float((truth == commonest).mean()))


def _nearest(found: NDArray[np.float64]) -> Nearest:
    quantiles = tuple(float(value) for value in np.quantile(found, QUANTILES))
    return Nearest(len(found), float((found == 1).mean()), float((found > CLOSE).mean()), quantiles)


def _entities(examples: Sequence[Example]) -> pd.DataFrame:
    """A row per entity: ``example`` (its place), ``modality``, ``value`` and the example's ``answer``."""
    rows = [
        (place, entity.modality, entity.value, example.answer)
        for place, example in enumerate(examples)
        for entity in example.entities()
    ]
    return pd.DataFrame(rows, columns=["example", "modality", "value", "answer"])


def _of(entities: pd.DataFrame, modality: str) -> pd.DataFrame:
    return entities[entities["modality"] == modality]


def _scaffolds(molecules: pd.DataFrame) -> pd.DataFrame:
    known = {smiles: scaffold(smiles) for smiles in molecules["value"].unique()}
    return molecules.assign(value=molecules["value"].map(known))


def _questions(examples: Sequence[Example]) -> pd.DataFrame:
    """A row per example; two questions are one where they ask for the same entities in any order."""
    values = ["\n".join(sorted(f"{e.modality} {e.value}" for e in example.entities())) for example in examples]
    return pd.DataFrame({"example": range(len(examples)), "value": values})
