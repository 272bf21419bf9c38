"""Retention questions: one entity and what a table says of it, with short answers.

An entity's side is a hash of the entity, as in the lessons of a language model
(``specialists/families/language_model/lessons.py``): at one seed nothing that a specialist was taught is on the test
side, as long as ``validation_share`` and ``test_share`` together are at most its ``held_out`` and the entity is read in
the same form; of a molecule, any form will do, since all that have one connectivity share a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.data import rules
from esmerge.data.identity import STRICTEST, identity
from esmerge.data.joining import leave_out
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import canonical_sequence, gene_list
from esmerge.data.splits import hashed_sides
from esmerge.data.tables import SHOWN, RowValidator, checksum, read_columns, shared, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark
from esmerge.tasks.table_settings import TableSettings

CHECKS: dict[str, Callable[[str], str]] = {
    "molecule": canonical_smiles,
    "protein": canonical_sequence,
    "cell": gene_list,
}
RULES = ("above", "contains", "classes", "mentions")


@dataclass(frozen=True, kw_only=True)
class AnnotationSettings(TableSettings):
    """Settings of a question about one column.

    Attributes:
        modality: what the entities are; the prompt holds it in braces.
        table: file under the benchmark's root.
        entity, answer: columns of the raw entity and of the answer.
        above: the second label is right where the answer column is a number above this.
        contains: the second label is right where the answer column's text contains this.
        classes: value of the answer column -> index of the right label, from 0; null leaves rows of that value out.
        mentions: word -> index of the right label where the first sentence of the answer column holds the word; rows
            that name none or several labels are left out.
        rows: column -> the value that a row must have to be used at all.
        words: a cell is cut to this many genes; None for all.
        validation_share, test_share: shares of the entities.
    """

    modality: str
    table: str
    entity: str
    answer: str
    above: float | None = None
    contains: str | None = None
    classes: dict[str, int | None] | None = None
    mentions: dict[str, int] | None = None
    rows: dict[str, str] = field(default_factory=dict)
    words: int | None = None
    validation_share: float = 0.1
    test_share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        rules_set = [name for name in RULES if getattr(self, name) is not None]
        if len(rules_set) != 1:
            raise ConfigError(
                f"benchmark sets {', '.join(rules_set) or 'none'} of {', '.join(RULES)}: expected one of them"
            )
        if self.modality not in CHECKS:
            raise ConfigError(f"benchmark.modality={self.modality!r} must be one of {', '.join(CHECKS)}")
        if self.entity == self.answer:
            raise ConfigError(f"benchmark.entity and benchmark.answer are one column, {self.entity}: expected two")
        if self.words is not None and self.words < 1:
            raise ConfigError(f"benchmark.words={self.words} must be at least 1, or null for all")
        indices = {**(self.classes or {}), **(self.mentions or {})}
        for value, index in indices.items():
            if index is not None and index < 0:
                raise ConfigError(f"benchmark maps {value!r} to {index}: expected the place of a label, from 0")

    def split_settings(self) -> dict[str, str | float]:
        return {"validation_share": self.validation_share, "test_share": self.test_share}


@SOURCES.register("annotation", AnnotationSettings)
def annotation(settings: AnnotationSettings, request: BenchmarkRequest) -> Benchmark:
    """What does the table say of this entity?

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows.
    """
    path = table_path(request.root, settings.table, request.name)
    validator = RowValidator(read_columns(path, [settings.entity, settings.answer, *settings.rows]))
    left_out = _other_rows(validator, settings)
    validator.require([settings.entity, settings.answer])
    validator.convert(settings.entity, _check(settings))
    validator.convert(settings.answer, _rule(settings))
    unasked = validator.frame[settings.answer] == rules.LEFT_OUT
    left_out += leave_out(validator, unasked, f"its {settings.answer} stands for none of the answers")
    validator.distinct([settings.entity], settings.answer, settings.identities(**{settings.entity: settings.modality}))
    validator.finish(settings.max_rejects)
    value = validator.frame[settings.entity]
    same = identity(settings.modality, settings.identity or STRICTEST)
    key = shared(validator.frame, {settings.entity: same})[settings.entity]
    frame = validator.frame[["row"]].assign(
        **{settings.modality: value},
        answer=validator.frame[settings.answer],
        key=key,
        side=hashed_sides(key, request.seed, settings.validation_share, settings.test_share),
        group="",
    )
    total = checksum([path], request.name, settings.sha256)
    return assemble_benchmark(frame, (settings.modality,), settings, request, total, [*validator.rejects, *left_out])


def _other_rows(validator: RowValidator, settings: AnnotationSettings) -> list[Reject]:
    """The rows without the values that ``rows`` asks for, which are left out.

    Raises:
        InputError: no row has one of them.
    """
    left_out = []
    for column, expected in settings.rows.items():
        values = validator.frame[column]
        if not (values == expected).any():
            counts = values.value_counts()
            listing = ", ".join(f"{value!r} ({count})" for value, count in counts[:SHOWN].items()) or "nothing"
            raise InputError(
                f"benchmark.rows.{column}={expected!r} selects none of {len(values)} rows: {column} holds {listing}"
                f"{' and others' if len(counts) > SHOWN else ''}; write the value as the table does"
            )
        left_out += leave_out(validator, ~(values == expected).fillna(False), f"its {column} is not {expected}")
    return left_out


def _check(settings: AnnotationSettings) -> Callable[[str], str]:
    check = CHECKS[settings.modality]
    return partial(gene_list, count=settings.words) if check is gene_list else check


def _rule(settings: AnnotationSettings) -> Callable[[str], int]:
    if settings.above is not None:
        return rules.above(settings.above, settings.answer)
    if settings.contains is not None:
        return rules.contains(settings.contains)
    if settings.classes is not None:
        return rules.classes(settings.classes, settings.answer)
    return rules.mentions(settings.mentions or {})
