"""Config nodes become frozen settings: nested ones on top of their defaults, types as they are, errors by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from esmerge.core.errors import ConfigError
from esmerge.core.schema import typed


@dataclass(frozen=True)
class Encoder:
    steps: int
    width: int = 64
    names: dict[str, str] = field(default_factory=lambda: {"molecule": "small"})


@dataclass(frozen=True)
class Training:
    backbone: str
    rank: str | int = "exact"
    limit: int | None = None
    rate: float = 1.0
    shared: bool = False
    labels: dict[str, list[str]] = field(default_factory=dict)
    encoder: Encoder = field(default_factory=lambda: Encoder(steps=150))
    others: dict[str, Encoder] = field(default_factory=lambda: {"first": Encoder(steps=1, width=8)})

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ConfigError(f"training.rate={self.rate} must be greater than 0")


def read(**node: Any) -> Training:
    return typed(Training, {"backbone": "tiny", **node}, "training")


def test_what_is_not_given_is_the_default_at_every_depth() -> None:
    assert read() == Training("tiny")
    training = read(
        encoder={"width": 32, "names": {"cell": "large"}}, others={"first": {"width": 9}, "next": {"steps": 2}}
    )
    assert training.encoder == Encoder(150, 32, {"molecule": "small", "cell": "large"})
    assert training.others == {"first": Encoder(steps=1, width=9), "next": Encoder(steps=2)}
    assert read().others == {"first": Encoder(steps=1, width=8)}, "a schema's own defaults stay as they are"


@pytest.mark.parametrize(
    ("key", "setting", "expected"),
    [
        ("rank", 3, 3),
        ("rank", "3", "3"),
        ("limit", "3", 3),
        ("limit", None, None),
        ("rate", 2, 2.0),
        ("backbone", 7, "7"),
        ("shared", "yes", True),
        ("labels", {}, {}),
        ("labels", {"english": ["a"]}, {"english": ["a"]}),
        ("others", {}, {"first": Encoder(steps=1, width=8)}),
    ],
)
def test_values_take_the_type_of_their_field(key: str, setting: Any, expected: Any) -> None:
    value = getattr(read(**{key: setting}), key)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"rates": 1},
            r"training\.rates is not a setting: expected one of backbone, rank, limit, rate, shared, labels",
        ),
        ({"encoder": {"depth": 1}}, r"training\.encoder\.depth is not a setting: expected one of steps, width, names"),
        ({"others": {"next": {"depth": 1}}}, r"training\.others\.next\.depth is not a setting: expected one of steps"),
        ({"others": {"next": {}}}, r"training\.others\.next\.steps must be given"),
        ({"others": 3}, r"training\.others=3: expected names, each with the settings of Encoder"),
        ({"others": {"next": 3}}, r"training\.others: next=3 is of type int, expected the settings of Encoder: steps"),
        (
            {"encoder": None},
            r"training: encoder=None is of type NoneType, expected the settings of Encoder: steps, width",
        ),
        ({"backbone": "???"}, r"training\.backbone must be given"),
        ({"limit": True}, r"training\.limit: Value 'True' of type 'bool' could not be converted to Integer"),
        ({"limit": 1.0}, r"training\.limit: .*'1\.0'.*Integer"),
        ({"encoder": {"width": "wide"}}, r"training\.encoder\.width: .*'wide'.*Integer"),
        ({"labels": {"english": "a"}}, r"training\.labels.*: "),
        ({"rank": [1]}, r"training\.rank: .*\[1\]"),
        (
            {"labels": {"english": [False, True]}},
            r"training\.labels\.english\[0\]=False: expected text, quote it: YAML",
        ),
        ({"encoder": {"names": {"cell": True}}}, r"training\.encoder\.names\.cell=True: expected text, quote it"),
        ({"encoder": {"names": {0: "a"}}}, r"training\.encoder\.names has the key 0: expected text, quote it: YAML"),
        ({"backbone": False}, r"training\.backbone=False: expected text, quote it: YAML reads no, yes, on and off"),
        ({"rate": 0}, r"^training\.rate=0\.0 must be greater than 0$"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(**node)
    assert "\n" not in str(error.value)


def test_a_field_without_a_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^training\.backbone must be given$"):
        typed(Training, {}, "training")
