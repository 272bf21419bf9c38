"""From checked rows to a benchmark: what all sources that read tables share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.errors import ConfigError
from src.specialists.pieces import Benchmark, Entity, Example, Reject
from src.tasks import Request
from src.tasks.prompts import answers, choose, fill
from src.tasks.splits import SIDES, check_disjoint, sample


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Settings of every benchmark that reads a table.

    Attributes:
        prompt: language -> template with placeholders.
        labels: language -> the answers, negative first.
        max_rejects: the load fails if more than this share of the rows is refused.
        train_limit, validation_limit: sizes of label-stratified samples of these splits; None for all.
        sha256: checksum that the tables must have; None to accept any.
    """

    prompt: dict[str, str]
    labels: dict[str, list[str]]
    max_rejects: float = 0.05
    train_limit: int | None = 1000
    validation_limit: int | None = 500
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_rejects < 1:
            raise ConfigError(f"benchmark.max_rejects={self.max_rejects} must be at least 0 and less than 1")
        for name in ("train_limit", "validation_limit"):
            check_limit(name, getattr(self, name))


def check_limit(name: str, value: int | None) -> None:
    """Raise ``ConfigError`` unless ``benchmark.<name>`` is null or positive."""
    if value is not None and value < 1:
        raise ConfigError(f"benchmark.{name}={value} must be at least 1, or null for all rows")


def assemble(
    frame: pd.DataFrame,
    modalities: Sequence[str],
    settings: TableSettings,
    request: Request,
    checksum: str,
    rejects: Sequence[Reject],
) -> Benchmark:
    """Sample each split and ask one question per row.

    Args:
        frame: checked rows with ``row``, ``side``, ``answer``, ``group``, ``key`` and one column per modality. Rows of
            one ``key`` must stand on one side.
        modalities: the entities of a question.

    Raises:
        ConfigError: no wording for the language, or a template that does not fit.
        InputError: the splits are not disjoint.
    """
    check_limit("limit", request.limit)
    check_disjoint(frame, "key", request.name)
    template, labels = _wording(settings, request)
    limits = {"train": settings.train_limit, "validation": settings.validation_limit, "test": request.limit}
    splits: dict[str, Any] = {}
    for side in SIDES:
        rows = sample(frame[frame["side"] == side], limits[side], request.seed, f"{request.name}-{side}")
        splits[side] = tuple(_examples(rows, modalities, template, answers(labels, template)))
    facts = {"checksum": checksum, "rejects": tuple(rejects), **splits}
    return Benchmark(request.name, request.title, request.family, tuple(labels), **facts)


def whole(settings: Any) -> Any:
    """The same settings without limits on the training and validation splits."""
    return dataclasses.replace(settings, train_limit=None, validation_limit=None)


def _wording(settings: TableSettings, request: Request) -> tuple[str, list[str]]:
    template = choose("prompt", settings.prompt, request.language, request.name)
    labels = list(choose("labels", settings.labels, request.language, request.name))
    if len(set(labels)) != 2:
        raise ConfigError(f"benchmark.labels.{request.language}={labels} must be two different answers, negative first")
    return template, labels


def _examples(rows: pd.DataFrame, modalities: Sequence[str], template: str, labels: tuple[str, ...]) -> list[Example]:
    values = zip(*(rows[modality] for modality in modalities), strict=True)
    facts = zip(rows["row"], rows["answer"], rows["group"], values, strict=True)
    return [
        Example(row, fill(template, _entities(modalities, entities)), labels, int(answer), group)
        for row, answer, group, entities in facts
    ]


def _entities(modalities: Sequence[str], values: Sequence[str]) -> dict[str, list[Entity]]:
    return {modality: [Entity(modality, value)] for modality, value in zip(modalities, values, strict=True)}
