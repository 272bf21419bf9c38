"""What a config says of a benchmark that reads a table: wording, samples, identity, splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from esmerge.core.errors import ConfigError
from esmerge.data.identity import EXACT, STRICTEST, Identity, check_rule, identity
from esmerge.data.splits import PUBLISHED, check_kind
from esmerge.tasks.api import MAX_REJECTS, SourceConfig


@dataclass(frozen=True, kw_only=True)
class TableSettings(SourceConfig):
    """Settings of every benchmark that reads a table.

    Attributes:
        prompt: language -> template with placeholders; ``{answers}`` stands for the quoted list of the answers. Without
            a ``brief`` one, specialists that read the brief wording are asked in English.
        labels: language -> the answers; of two, the negative one first. Brief prompts without brief labels have the
            English ones.
        max_rejects: the load fails if more than this share of the rows is refused.
        train_limit, validation_limit: sizes of label-stratified samples of these splits; None for all.
        sha256: checksum that the tables must have; None to accept any.
        identity: which molecules and cell lines are one (``esmerge.data.identity``): ``exact``, ``parent`` or
            ``connectivity``, for duplicates and between the sides of a split. None is ``exact`` for duplicates and
            random splits, and ``connectivity`` between the sides of all others that are made here, and between a
            question and the solved examples before it.
    """

    prompt: dict[str, str]
    labels: dict[str, list[str]]
    max_rejects: float = MAX_REJECTS
    train_limit: int | None = 1000
    validation_limit: int | None = 500
    sha256: str | None = None
    identity: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.identity)
        if not 0 <= self.max_rejects < 1:
            raise ConfigError(f"benchmark.max_rejects={self.max_rejects} must be at least 0 and less than 1")
        for name in ("train_limit", "validation_limit"):
            check_limit(name, getattr(self, name))

    def identities(self, **columns: str) -> dict[str, Identity]:
        """Column -> what its equal entries share, for columns of a kind; empty where they are compared as they are.

        Args:
            columns: column -> its kind, as ``esmerge.data.identity`` names kinds.
        """
        rule = self.identity or EXACT
        return {} if rule == EXACT else {column: identity(kind, rule) for column, kind in columns.items()}

    def split_settings(self) -> dict[str, str | float]:
        """Name -> value of the settings that decide on which side a row stands."""
        return {}

    def shot_identity(self) -> str:
        return self.identity or STRICTEST

    def reject_limit(self) -> float:
        return self.max_rejects


@dataclass(frozen=True, kw_only=True)
class SplitSettings(TableSettings):
    """Settings of every benchmark whose rows can be split here.

    Attributes:
        SPLITS: the kinds of split that it has (see ``split_rows``).
        REQUIRED: the words that its ``columns`` must have, if it has columns; any others are those of their default.
        split: one of them.
        validation_share, test_share: shares of what is split: rows, molecules, proteins, cell lines or scaffolds.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ()
    REQUIRED: ClassVar[tuple[str, ...]] = ()
    split: str = "random"
    validation_share: float = 0.1
    test_share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.split, self.SPLITS)
        check_columns(self, self.REQUIRED)

    def split_kind(self) -> str | None:
        return self.split

    def split_settings(self) -> dict[str, str | float]:
        if self.split == PUBLISHED:  # which has its sides already
            return {"split": self.split}
        return {"split": self.split, "validation_share": self.validation_share, "test_share": self.test_share}


Table = TypeVar("Table", bound=TableSettings)


def without_limits(settings: Table) -> Table:
    """The same settings without limits on the training and validation splits."""
    return dataclasses.replace(settings, train_limit=None, validation_limit=None)


def check_columns(settings: TableSettings, required: Collection[str] = ()) -> None:
    """Refuse words in ``benchmark.columns`` that nothing reads, and the lack of those that are needed.

    Raises:
        ConfigError: naming the word, and those that there are.
    """
    for item in dataclasses.fields(settings):
        if item.name != "columns" or not callable(item.default_factory):
            continue
        words, offered = getattr(settings, item.name), list(item.default_factory())
        expected = f"expected {', '.join(offered)}, each with the table's column"
        if unknown := [word for word in words if word not in offered]:
            raise ConfigError(f"benchmark.columns.{unknown[0]}={words[unknown[0]]!r} is read by nothing: {expected}")
        if missing := [word for word in required if not words.get(word)]:
            raise ConfigError(f"benchmark.columns has no {', '.join(missing)}: {expected}")


def check_limit(name: str, value: int | None) -> None:
    """Raise ``ConfigError`` unless ``benchmark.<name>`` is null or positive."""
    if value is not None and value < 1:
        raise ConfigError(f"benchmark.{name}={value} must be at least 1, or null for all rows")
