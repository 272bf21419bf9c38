"""From checked rows to a benchmark, for all sources that read tables."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence

import pandas as pd

from esmerge.core.errors import ConfigError, InputError, shown
from esmerge.core.prompts import Benchmark, Entity, Example, Reject
from esmerge.data.splits import PUBLISHED, SIDES, check_disjoint, sample, side_rule, split_rows
from esmerge.data.templates import Filling, answers, fill, in_language, worded_language
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.seen import unseen
from esmerge.tasks.table_settings import SplitSettings, TableSettings, check_limit

FEW = 50  # rows of a side below which a load warns: the 95 % interval of an accuracy of 0.5 is then wider than +-0.14
ANSWERS = "{answers}"  # in a template: the quoted list of the answers


def split_as(frame: pd.DataFrame, settings: SplitSettings, request: BenchmarkRequest) -> pd.DataFrame:
    """The rows with the sides that settings and seed give them: see ``split_rows``, which it calls."""
    rule = side_rule(settings.split, settings.identity)
    return split_rows(frame, settings.split, request.seed, settings.validation_share, settings.test_share, rule)


def assemble_benchmark(
    frame: pd.DataFrame,
    modalities: Sequence[str],
    settings: TableSettings,
    request: BenchmarkRequest,
    checksum: str,
    rejects: Sequence[Reject],
    labels: Sequence[str] | None = None,
    described: Collection[str] = (),
) -> Benchmark:
    """Sample each split and ask one question per row.

    Args:
        frame: checked rows with ``row``, ``side``, ``answer``, ``group``, ``key`` and one column per entity (see
            ``entity_column_names``). Rows of one ``key`` must stand on one side.
        modalities: those of a question's entities, in their order; one may occur several times.
        labels: the answers, where the settings do not give them.
        described: the entity columns that hold words, which stand in the prompt in place of an entity.

    Raises:
        ConfigError: no wording for the language, a template that does not fit, or answers that are not those of the
            rows.
        InputError: the splits are not disjoint, two rows have one id, or no row is left for training or for the test.

    Warns of a side of fewer than ``FEW`` rows, by name and with their number, and of a wording that is not the
    specialists' own.
    """
    check_limit("limit", request.limit)
    columns = dict(zip(entity_column_names(modalities), modalities, strict=True))
    perceived = {column: modality for column, modality in columns.items() if column not in described}
    frame, seen_rejects = unseen(frame, perceived, request)
    check_disjoint(frame, "key", request.name)
    _check_ids(frame, list(columns), request)
    check_sides(frame["side"], settings, request)
    template, labels = _wording(settings, request, frame["answer"], labels)
    limits = {"train": settings.train_limit, "validation": settings.validation_limit, "test": request.limit}
    splits: dict[str, tuple[Example, ...]] = {}
    for side in SIDES:
        rows = sample(frame[frame["side"] == side], limits[side], request.seed, f"{request.name}-{side}")
        splits[side] = tuple(_examples(rows, modalities, template, answers(labels, template), described))
    train, validation, test = (splits[side] for side in ("train", "validation", "test"))
    facts = request.name, request.title, request.family, tuple(labels)
    return Benchmark(*facts, train, validation, test, checksum, rejects=(*rejects, *seen_rejects))


def _check_ids(frame: pd.DataFrame, columns: Sequence[str], request: BenchmarkRequest) -> None:
    """Raise ``InputError`` naming two rows of one ``row``: answers are stored, paired and tested by it."""
    repeated = frame["row"].duplicated()
    if repeated.any():
        name = frame.loc[repeated, "row"].iloc[0]
        pair = frame.loc[frame["row"] == name, list(columns)].head(2).itertuples(index=False, name=None)
        first, second = (" with ".join(map(shown, entities)) for entities in pair)
        raise InputError(
            f"benchmark {request.name!r}: {int(repeated.sum())} rows have the id of another, e.g. {name} is {first} "
            f"and {second}: read each table once, from a file of its own"
        )


def _wording(
    settings: TableSettings, request: BenchmarkRequest, right: pd.Series, labels: Sequence[str] | None
) -> tuple[str, Sequence[str]]:
    """The template and the answers, in one language; warns where it is not the specialists' own.

    Args:
        right: (n,) the index of each row's answer.
    """
    language = worded_language(settings.prompt, request.language)
    labels = in_language("labels", settings.labels, language, request.name) if labels is None else labels
    check_labels(labels, right, request)
    offered = quoted_list(labels)
    if language != request.language:
        warnings.warn(
            f"benchmark {request.name!r} has no {request.language} wording, which the specialists read: they are asked "
            f"in {language}, with the answers {offered}; give benchmark.prompt.{request.language} and "
            f"benchmark.labels.{request.language}",
            stacklevel=3,
        )
    return in_language("prompt", settings.prompt, language, request.name).replace(ANSWERS, offered), labels


def check_sides(sides: pd.Series, settings: TableSettings, request: BenchmarkRequest) -> None:
    """Raise ``InputError`` where nothing is left to train on or to ask; warn of sides that are too small to judge by.

    Args:
        sides: (n,) the side of each row.
    """
    counts = {side: int((sides == side).sum()) for side in reversed(SIDES)}
    deciding = [f"benchmark.{name}={value}" for name, value in settings.split_settings().items()]
    if settings.split_kind() != PUBLISHED:
        deciding.append(f"seed={request.seed}")
    counted = f"{', '.join(f'{side} {count}' for side, count in counts.items())} rows under {', '.join(deciding)}"
    empty = [side for side in ("train", "test") if not counts[side]]
    if empty:
        raise InputError(
            f"benchmark {request.name!r} has no {' and no '.join(empty)} rows ({counted}): choose another split, other "
            "shares or another seed, or give a larger table"
        )
    small = [side for side, count in counts.items() if count < FEW]
    if small:
        warnings.warn(
            f"benchmark {request.name!r} has few {' and few '.join(small)} rows ({counted}): an accuracy on fewer than "
            f"{FEW} says little, and nothing should be chosen by it",
            stacklevel=3,
        )


def check_labels(labels: Sequence[str], answers: pd.Series, request: BenchmarkRequest) -> None:
    """Raise ``ConfigError`` unless the labels differ and there is one for each answer of the rows.

    Args:
        answers: (n,) the index of each row's answer among the labels.
    """
    subject = f"benchmark {request.name!r}: labels.{request.language} is {', '.join(labels) or 'empty'}"
    if len(set(labels)) < max(2, len(labels)):
        raise ConfigError(f"{subject}: expected two or more different answers; of two, the negative one first")
    expected = max(2, int(answers.max()) + 1)
    if len(labels) != expected:
        raise ConfigError(f"{subject}: expected {expected}, one for each answer that the rows have")


def quoted_list(labels: Sequence[str]) -> str:
    """The labels as a prompt offers them: ``"A", "B" or "C"``."""
    *first, last = (f'"{label}"' for label in labels)
    return f"{', '.join(first)} or {last}" if first else last


def entity_column_names(modalities: Sequence[str]) -> list[str]:
    """The column of each entity: its modality, numbered from 1 where a question holds several of one."""
    counts = Counter(modalities)
    numbers = [list(modalities[: position + 1]).count(name) for position, name in enumerate(modalities)]
    return [
        name if counts[name] == 1 else f"{name}_{position}" for name, position in zip(modalities, numbers, strict=True)
    ]


def _examples(
    rows: pd.DataFrame, modalities: Sequence[str], template: str, labels: tuple[str, ...], described: Collection[str]
) -> list[Example]:
    columns = entity_column_names(modalities)
    in_words = [column in described for column in columns]
    values = zip(*(rows[column] for column in columns), strict=True)
    fields = zip(rows["row"], rows["answer"], rows["group"], values, strict=True)
    return [
        Example(row, fill(template, _entities(modalities, entities, in_words)), labels, int(answer), group)
        for row, answer, group, entities in fields
    ]


def _entities(modalities: Sequence[str], values: Sequence[str], in_words: Sequence[bool]) -> dict[str, list[Filling]]:
    by_modality: dict[str, list[Filling]] = {}
    for modality, value, words in zip(modalities, values, in_words, strict=True):
        by_modality.setdefault(modality, []).append(value if words else Entity(modality, value))
    return by_modality
