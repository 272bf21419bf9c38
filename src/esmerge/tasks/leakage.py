"""What a test split may owe to its training split: shared molecules, proteins, cells, scaffolds and questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit.DataStructs import BulkTanimotoSimilarity
from sklearn.metrics import roc_auc_score

from esmerge.core.errors import InputError
from esmerge.core.progress import progress
from esmerge.core.prompts import Benchmark, Example
from esmerge.data.identity import RULES, Identity, identity
from esmerge.data.molecules import bit_vector, scaffold

DRUG, SCAFFOLD, QUESTION = "molecule", "scaffold", "whole question"
CLOSE = 0.9  # Tanimoto similarity above which two molecules are close analogues
SHOWN = 5  # pairs of forms that a report names
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Overlap:
    """How many values of one kind the test split shares with training.

    Attributes:
        kind: a modality, ``scaffold``, or ``whole question`` (all entities of a question, molecules in any order).
        train, test: distinct values in either split; equal sequences are one protein.
        shared: distinct values of the test split that training holds too.
        any_share, all_share: shares of the test examples in which at least one value, or every value, is shared.
    """

    kind: str
    train: int
    test: int
    shared: int
    any_share: float
    all_share: float


@dataclass(frozen=True)
class Merged:
    """What the test split shares with training under a rule of identity, and not as it is written.

    Attributes:
        kind: a modality, or ``whole question``.
        rule: of ``esmerge.data.identity``.
        shared: distinct values of the test split that training holds in another form only.
        any_share: share of the test examples with at least one value that training holds in some form.
        pairs: the first of them, each beside the form that training holds.
    """

    kind: str
    rule: str
    shared: int
    any_share: float
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Nearest:
    """Tanimoto similarity of each distinct test molecule to the training molecule nearest to it (Morgan, 2048 bits).

    Attributes:
        molecules: distinct molecules in the test split.
        equal, close: shares of them with a similarity of 1, and above ``CLOSE``.
        quantiles: one per entry of ``QUANTILES``.
    """

    molecules: int
    equal: float
    close: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class EntityBaseline:
    """How well the mean training answer of the same entities predicts the answers of test examples.

    Attributes:
        modality: the entities of this modality alone are looked at.
        examples: test examples with an entity of that modality that training holds; the scores are over these.
        auroc: of the mean training label; NaN where there are more than two labels or one class only.
        accuracy: of the label most frequent among them.
        majority: accuracy of the label most frequent in all of training.
    """

    modality: str
    examples: int
    auroc: float
    accuracy: float
    majority: float


@dataclass(frozen=True)
class Leakage:
    """The report on one benchmark; ``nearest`` is None where no question holds a molecule, and ``merged`` has a row
    per kind and rule that merges what the exact one does not."""

    benchmark: str
    overlaps: tuple[Overlap, ...]
    nearest: Nearest | None
    baselines: tuple[EntityBaseline, ...]
    merged: tuple[Merged, ...] = ()


def measure_leakage(benchmark: Benchmark) -> Leakage:
    """Compare the test split of a benchmark with its training split.

    Raises:
        InputError: either split is empty, or a molecule is not valid SMILES.
    """
    for side, examples in (("training", benchmark.train), ("test", benchmark.test)):
        if not examples:
            raise InputError(f"benchmark {benchmark.name!r} has no {side} examples: there is nothing to compare")
    modalities = list(dict.fromkeys(entity.modality for entity in benchmark.test[0].entities()))
    train, test = (_entities(examples) for examples in (benchmark.train, benchmark.test))
    entities = {modality: (_of(train, modality), _of(test, modality)) for modality in modalities}
    overlaps = [overlap(modality, *sides) for modality, sides in entities.items()]
    nearest = None
    if DRUG in modalities:
        train_molecules, test_molecules = entities[DRUG]
        overlaps.append(overlap(SCAFFOLD, _scaffolds(train_molecules), _scaffolds(test_molecules)))
        title = f"nearest molecules of {benchmark.name}"
        nearest = _nearest(similarities(test_molecules["value"].unique(), train_molecules["value"].unique(), title))
    overlaps.append(overlap(QUESTION, _questions(benchmark.train), _questions(benchmark.test)))
    labels = len(benchmark.labels)
    baselines = [_entity_baseline(modality, *sides, labels) for modality, sides in entities.items()]
    return Leakage(benchmark.name, tuple(overlaps), nearest, tuple(baselines), tuple(_merged(benchmark, entities)))


def merged(kind: str, rule: str, train: pd.DataFrame, test: pd.DataFrame, same: Identity) -> Merged:
    """Compare two splits under a rule; the frames are those of ``overlap``."""
    values = pd.Series(pd.concat([train["value"], test["value"]]).unique())
    key_of = dict(zip(values, values.map(same), strict=True))
    exact = set(train["value"])
    form_of = {key_of[value]: value for value in reversed(train["value"].unique())}
    pairs = [(value, form_of[key_of[value]]) for value in test["value"].unique() if key_of[value] in form_of]
    merged_pairs = [pair for pair in pairs if pair[0] not in exact]
    in_training = test["value"].map(key_of).isin(form_of).groupby(test["example"]).any()
    return Merged(kind, rule, len(merged_pairs), float(in_training.mean()), tuple(merged_pairs[:SHOWN]))


def _merged(benchmark: Benchmark, entities: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Iterator[Merged]:
    """Molecules, and questions that hold some, under each rule but the exact one."""
    if DRUG not in entities:
        return
    for rule in RULES[1:]:
        same = identity(DRUG, rule)
        yield merged(DRUG, rule, *entities[DRUG], same)
        yield merged(
            QUESTION, rule, _questions(benchmark.train), _questions(benchmark.test), partial(_question_key, same)
        )


def _question_key(same: Identity, question: str) -> str:
    lines = (line.partition(" ") for line in question.split("\n"))
    return "\n".join(sorted(f"{kind} {same(value) if kind == DRUG else value}" for kind, _, value in lines))


def overlap(kind: str, train: pd.DataFrame, test: pd.DataFrame) -> Overlap:
    """Compare two splits; a row of a frame is a ``value`` in an ``example``."""
    train_values, test_values = train["value"].unique(), pd.Series(test["value"].unique())
    in_training = test["value"].isin(train_values).groupby(test["example"])
    shared = int(test_values.isin(train_values).sum())
    any_share, all_share = float(in_training.any().mean()), float(in_training.all().mean())
    return Overlap(kind, len(train_values), len(test_values), shared, any_share, all_share)


def similarities(test: Iterable[str], train: Iterable[str], title: str) -> NDArray[np.float64]:
    """Largest Tanimoto similarity of each test SMILES to a training SMILES, (test,); ``title`` heads the bar."""
    molecules = list(test)
    vectors = [bit_vector(smiles) for smiles in train]
    largest = np.zeros(len(molecules))
    with progress(title, len(molecules)) as bar:
        for row, smiles in enumerate(molecules):
            largest[row] = max(BulkTanimotoSimilarity(bit_vector(smiles), vectors))
            bar.update()
    return largest


def answer_shares(train: pd.DataFrame, test: pd.DataFrame, labels: int) -> pd.DataFrame:
    """The training answers for the same entities: a share per label, averaged over an example's entities.

    Args:
        train, test: a row per entity, with ``example``, ``value`` and ``answer``.

    Returns:
        (test examples, labels), indexed by example; examples without an entity that training holds are absent.
    """
    shares = pd.crosstab(train["value"], train["answer"], normalize="index").reindex(
        columns=range(labels), fill_value=0
    )
    covered = test[test["value"].isin(shares.index)]
    rows = shares.loc[covered["value"]].set_axis(covered["example"].to_numpy())
    return rows.groupby(level=0).mean()


def _entity_baseline(modality: str, train: pd.DataFrame, test: pd.DataFrame, labels: int) -> EntityBaseline:
    shares = answer_shares(train, test, labels)
    if shares.empty:
        return EntityBaseline(modality, 0, np.nan, np.nan, np.nan)
    truth = test.groupby("example")["answer"].first().loc[shares.index].to_numpy()
    scored = labels == 2 and len(set(truth)) == 2
    auroc = float(roc_auc_score(truth, shares[1])) if scored else np.nan
    commonest = train.groupby("example")["answer"].first().mode()[0]
    accuracy = float((shares.to_numpy().argmax(axis=1) == truth).mean())
    return EntityBaseline(modality, len(shares), auroc, accuracy, float((truth == commonest).mean()))


def _nearest(similarity: NDArray[np.float64]) -> Nearest:
    quantiles = tuple(float(value) for value in np.quantile(similarity, QUANTILES))
    return Nearest(len(similarity), float((similarity == 1).mean()), float((similarity > CLOSE).mean()), quantiles)


def _entities(examples: Sequence[Example]) -> pd.DataFrame:
    """A row per entity: ``example`` (its position), ``modality``, ``value`` and the example's ``answer``."""
    rows = [
        (index, entity.modality, entity.value, example.answer)
        for index, example in enumerate(examples)
        for entity in example.entities()
    ]
    return pd.DataFrame(rows, columns=["example", "modality", "value", "answer"])


def _of(entities: pd.DataFrame, modality: str) -> pd.DataFrame:
    return entities[entities["modality"] == modality]


def _scaffolds(molecules: pd.DataFrame) -> pd.DataFrame:
    scaffolds = {smiles: scaffold(smiles) for smiles in molecules["value"].unique()}
    return molecules.assign(value=molecules["value"].map(scaffolds))


def _questions(examples: Sequence[Example]) -> pd.DataFrame:
    """A row per example; questions about the same entities in any order have the same value."""
    values = ["\n".join(sorted(f"{e.modality} {e.value}" for e in example.entities())) for example in examples]
    return pd.DataFrame({"example": range(len(examples)), "value": values})
