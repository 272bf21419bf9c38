"""What may be tuned, in what range, and with how many trials: the same for every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, TypeVar, cast

from esmerge.coefficients.types import ESConfig
from esmerge.core.errors import ConfigError
from esmerge.core.validation import at_least

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

GRANULARITY_FIELDS = {"layer": ("temperature",), "element": ("tau",), "joint": ("temperature", "tau")}
EVERYTHING = "all"
Settings = TypeVar("Settings", bound="DataclassInstance")
Values = Mapping[str, float | None]
"""Setting -> value; None where a method's own rule stands, such as TSV-Merge's share of 1/N."""


@dataclass(frozen=True)
class SearchRange:
    """Values that a setting may take: from ``low`` to ``high``, evenly or, with ``log``, by ratio."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ConfigError(
                f"tuning.search: low={self.low}, high={self.high}, log={self.log}: expected low < high, and low above "
                "0 where log is true"
            )

    def holds(self, value: float | None) -> bool:
        """Whether a value lies in the range."""
        return value is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Tuning:
    """How a method's numbers are tuned on the validation split (config group ``tuning``).

    Attributes:
        name: ``none`` leaves the published settings.
        trials: settings tried for each method, the published ones first; 0 for ``none``.
        limit: validation questions of each benchmark; None for all.
        objective: family of benchmarks whose mean accuracy decides, or ``all``.
        search: setting -> range; a method is tuned in those that it has, ES also in its granularity's.
    """

    name: str = "none"
    trials: int = 0
    limit: int | None = None
    objective: str = EVERYTHING
    search: dict[str, SearchRange] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least(self, "tuning", 0, "trials")
        at_least(self, "tuning", 1, "limit")
        if self.trials and not self.search:
            raise ConfigError("tuning.trials is set, but tuning.search names no setting: give it ranges")

    def ranges(self, settings: DataclassInstance, granularity: ESConfig | None) -> dict[str, SearchRange]:
        """The ranges of what one method has."""
        tunable = {item.name for item in fields(settings)}
        if granularity is not None:
            tunable |= set(GRANULARITY_FIELDS[granularity.name])
        return {name: values for name, values in self.search.items() if name in tunable}


def values_of(names: Mapping[str, SearchRange], settings: DataclassInstance, granularity: ESConfig | None) -> Values:
    """The published values of what is tuned; a setting that both have is the method's."""
    values = {**_values(granularity), **_values(settings)}
    return cast(Values, {name: values[name] for name in names})


def with_values(values: Values, settings: Settings, granularity: ESConfig | None) -> tuple[Settings, ESConfig | None]:
    """Settings and granularity with other values."""
    names = _values(settings).keys()
    of_method = {name: value for name, value in values.items() if name in names}
    of_granularity = {name: value for name, value in values.items() if name not in names}
    return _with(settings, of_method), None if granularity is None else _with(granularity, of_granularity)


def _with(settings: Settings, values: Values) -> Settings:
    return replace(settings, **values)


def _values(settings: DataclassInstance | None) -> dict[str, object]:
    """Field -> value of a settings dataclass; nothing for None."""
    return {} if settings is None else {field.name: getattr(settings, field.name) for field in fields(settings)}
