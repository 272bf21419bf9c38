"""Which example holds which entity, as sparse matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from scipy.sparse import csr_matrix

from esmerge.core.prompts import Entity, Example

Rows = Sequence[Sequence[int]]


def incidence(rows: Rows, width: int) -> csr_matrix:
    """How often each row lists each column: (len(rows), width)."""
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(rows), width))


def entity_columns(examples: Sequence[Example], modalities: Sequence[str]) -> dict[Entity, int]:
    """A column for each entity of these modalities, in the order in which the examples first hold them."""
    entities = dict.fromkeys(entity for example in examples for entity in unique_entities(example, modalities))
    return {entity: column for column, entity in enumerate(entities)}


def entity_incidence(
    examples: Sequence[Example], modalities: Sequence[str], columns: Mapping[Entity, int]
) -> csr_matrix:
    """1 where an example holds an entity, however often: (n, entities). Entities without a column are left out."""
    rows = [[columns[e] for e in unique_entities(example, modalities) if e in columns] for example in examples]
    return incidence(rows, len(columns))


def unique_entities(example: Example, modalities: Sequence[str]) -> tuple[Entity, ...]:
    """The example's entities of these modalities, each once."""
    return tuple(dict.fromkeys(entity for entity in example.entities() if entity.modality in modalities))
