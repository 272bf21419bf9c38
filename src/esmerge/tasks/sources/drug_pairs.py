"""Do two drugs interact, and how: a table of known interactions between named drugs, drugs as SMILES."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.rng import generator
from esmerge.core.text_files import read_text
from esmerge.data.identity import MOLECULE, Identity
from esmerge.data.joining import PAIR, Names, leave_out, pair_up, read_names, read_names_of_pairs, resolve
from esmerge.data.molecules import canonical_smiles
from esmerge.data.negatives import unobserved
from esmerge.data.splits import left_out
from esmerge.data.tables import RowValidator, checksum, read_columns, shared, table_path
from esmerge.data.templates import worded_language
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark, split_as
from esmerge.tasks.table_settings import SplitSettings

DRUGS = ("drug_1", "drug_2")
ALONE = ("drug", "molecule")  # in a table of drugs
TYPE_LABELS = Path(__file__).parents[1] / "data" / "ddi_types.csv"


def _columns() -> dict[str, str]:
    pairs = {"drug_1": "drug1_id", "drug_2": "drug2_id", "type": "type"}
    return {**pairs, "drug": "drug_id", "molecule": "SMILES", "molecule_1": "SMILES_1", "molecule_2": "SMILES_2"}


@dataclass(frozen=True, kw_only=True)
class DrugPairSettings(SplitSettings):
    """Settings that the two questions about drug pairs share.

    Attributes:
        pairs, drugs: files under the benchmark's root: ``drug_1``, ``drug_2`` and, for ``ddi_type``,
            ``type``; ``drug`` and ``molecule``. Without ``drugs`` the pairs hold the molecules themselves, in
            ``molecule_1`` and ``molecule_2``.
        columns: these words -> the tables' columns.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "cold_drug", "cold_one_drug", "scaffold")
    pairs: str
    drugs: str | None
    columns: dict[str, str] = field(default_factory=_columns)

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [name for name in (*DRUGS, *(PAIR if self.drugs is None else ALONE)) if name not in self.columns]
        if missing:
            raise ConfigError(
                f"benchmark.columns has no {', '.join(missing)}, which benchmark.drugs={self.drugs or 'null'} needs: "
                "give the table's column for each"
            )


@dataclass(frozen=True, kw_only=True)
class DdiSettings(DrugPairSettings):
    """Settings of the question whether two drugs interact.

    Attributes:
        negatives: unobserved pairs per observed one; of every drug, as far as it has so many.
    """

    negatives: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives <= 0:
            raise ConfigError(f"benchmark.negatives={self.negatives:g} must be positive: pairs per known interaction")


@dataclass(frozen=True, kw_only=True)
class DdiTypeSettings(DrugPairSettings):
    """Settings of the question how two drugs interact.

    Attributes:
        labels: none: ``src/esmerge/tasks/data/ddi_types.csv`` has them, and ``{answers}`` in the prompt lists them.
        types: questions are about this many of the most frequent types; rows of the others are left out.
    """

    labels: dict[str, list[str]] = field(default_factory=dict)
    types: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels:
            raise ConfigError(
                f"benchmark.labels must be empty: the answers of this benchmark are in {TYPE_LABELS.name}"
            )
        if self.types < 2:
            raise ConfigError(f"benchmark.types={self.types} must be at least 2: the answers to choose from")


@dataclass(frozen=True)
class Interactions:
    """The checked interactions: rows with ``molecule_1``, ``molecule_2`` in alphabetical order and the type."""

    validator: RowValidator
    drugs: Names
    paths: list[Path]


@SOURCES.register("ddi", DdiSettings)
def ddi(settings: DdiSettings, request: BenchmarkRequest) -> Benchmark:
    """Do these two drugs interact? Negatives are pairs without a known interaction, drawn by the seed, so that a drug
    is in as many of them as in known interactions.

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows.
    """
    interactions = read_interactions(settings, request, DRUGS)
    interactions.validator.finish(settings.max_rejects)
    positives = interactions.validator.frame.assign(answer=1)
    repeated = leave_out(
        interactions.validator,
        shared(positives, same_molecules(settings)).duplicated(PAIR),
        "the same pair as in an earlier row",
    )
    positives = positives.loc[interactions.validator.frame.index]
    frame = pd.concat([positives, _negatives(positives, interactions.drugs, settings, request.seed)], ignore_index=True)
    return _benchmark(frame, interactions, settings, request, repeated)


@SOURCES.register("ddi_type", DdiTypeSettings)
def ddi_type(settings: DdiTypeSettings, request: BenchmarkRequest) -> Benchmark:
    """Which of the most frequent types is the interaction of these two drugs?

    Raises:
        ConfigError: settings that do not fit, or a type without an answer in the language.
        InputError: a missing file or column, or too many bad rows.
    """
    interactions = read_interactions(settings, request, (*DRUGS, "type"))
    kind = settings.columns["type"]
    interactions.validator.distinct(PAIR, kind, same_molecules(settings))
    interactions.validator.finish(settings.max_rejects)
    types = most_frequent(interactions.validator.frame[kind], settings.types)
    rare = ~interactions.validator.frame[kind].isin(types)
    rare_rejects = leave_out(interactions.validator, rare, f"its type is none of the {settings.types} most frequent")
    frame = interactions.validator.frame.assign(answer=interactions.validator.frame[kind].map(types.index))
    labels = type_labels(types, worded_language(settings.prompt, request.language))
    return _benchmark(frame, interactions, settings, request, rare_rejects, labels)


def most_frequent(types: pd.Series, count: int) -> list[str]:
    """The ``count`` most frequent values, the most frequent first; equally frequent values by name.

    Raises:
        ConfigError: there are not so many.
    """
    counts = types.value_counts()
    if len(counts) < count:
        raise ConfigError(f"benchmark.types={count}, but the table has {len(counts)} types: choose at most so many")
    return sorted(counts.index, key=lambda name: (-counts[name], name))[:count]


def type_labels(types: Sequence[str], language: str) -> list[str]:
    """A short answer for each interaction type, in their order.

    Raises:
        ConfigError: a type has none in this language.
    """
    table = _type_table()
    missing = [name for name in types if not table.get(name, {}).get(language)]
    if missing:
        raise ConfigError(
            f"interaction type {missing[0]} has no {language} answer in {TYPE_LABELS.name}: add one, or ask about "
            "fewer by benchmark.types"
        )
    return [table[name][language] for name in types]


@lru_cache(maxsize=1)
def _type_table() -> dict[str, dict[str, str]]:
    return {row["type"]: row for row in csv.DictReader(io.StringIO(read_text(TYPE_LABELS)))}


def read_interactions(settings: DrugPairSettings, request: BenchmarkRequest, names: Sequence[str]) -> Interactions:
    """Rows in which these columns are there and both drugs are known."""
    columns = settings.columns
    files = [settings.pairs, *([settings.drugs] if settings.drugs else [])]
    paths = [table_path(request.root, file, request.name) for file in files]
    drugs = _drugs(settings, paths)
    texts = [columns[name] for name in names]
    validator = RowValidator(read_columns(paths[0], texts))
    validator.require(texts)
    for name, molecule in zip(DRUGS, PAIR, strict=True):
        resolve(validator, columns[name], drugs, molecule)
    pair_up(validator, same_molecules(settings))
    return Interactions(validator, drugs, paths)


def _drugs(settings: DrugPairSettings, paths: Sequence[Path]) -> Names:
    """Drug name -> SMILES, from a table of drugs or from the pairs themselves."""
    columns = settings.columns
    if settings.drugs is not None:
        return read_names(paths[1], columns["drug"], columns["molecule"], canonical_smiles, settings.max_rejects)
    column_pairs = [(columns[name], columns[molecule]) for name, molecule in zip(DRUGS, PAIR, strict=True)]
    return read_names_of_pairs(paths[0], column_pairs, canonical_smiles, settings.max_rejects)


def same_molecules(settings: DrugPairSettings) -> dict[str, Identity]:
    return settings.identities(**dict.fromkeys(PAIR, MOLECULE))


def _negatives(positives: pd.DataFrame, drugs: Names, settings: DdiSettings, seed: int) -> pd.DataFrame:
    """Pairs of the same drugs that no row holds, in alphabetical order like the positives."""
    forms = positives[PAIR].to_numpy(dtype=object).ravel()
    keys = shared(positives, same_molecules(settings))
    form_of = dict(zip(keys[PAIR].to_numpy(dtype=object).ravel(), forms, strict=True))  # of each molecule, any one
    molecules = np.array([form_of[key] for key in sorted(form_of)], dtype=object)
    index_of = {key: index for index, key in enumerate(sorted(form_of))}
    left, right = (keys[column].map(index_of).to_numpy() for column in PAIR)
    observed = np.zeros((len(molecules), len(molecules)), dtype=bool)
    observed[left, right] = observed[right, left] = True
    degrees = settings.negatives * observed.sum(axis=1)
    pairs = molecules[unobserved(observed, degrees, generator(seed, "unobserved-pairs"))]
    names = {molecule: name for name, molecule in drugs.values.items()}
    rows = [f"unobserved:{names[first]}:{names[second]}" for first, second in pairs]
    return pd.DataFrame({**dict(zip(PAIR, pairs.T, strict=True)), "row": rows, "answer": 0})


def _benchmark(
    frame: pd.DataFrame,
    interactions: Interactions,
    settings: DrugPairSettings,
    request: BenchmarkRequest,
    left_out_rows: Sequence[Reject],
    labels: Sequence[str] | None = None,
) -> Benchmark:
    complete = frame.assign(group="")
    sided = split_as(complete, settings, request)
    rejects = [*interactions.drugs.rejects, *interactions.validator.rejects, *left_out_rows]
    rejects += left_out(complete, sided, settings.split)
    total = checksum(interactions.paths, request.name, settings.sha256)
    return assemble_benchmark(sided, ["molecule"] * len(PAIR), settings, request, total, rejects, labels)
