from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from esmerge.core.errors import ConfigError, InputError
from esmerge.specialists.families.custom.encoders import EntryPointEncoder, entry_point, source_digest


def encoder(function: Callable[..., Any]) -> EntryPointEncoder:
    return EntryPointEncoder("cell", "mine:encode", function, 3)


def test_embeddings_come_as_they_are() -> None:
    embeddings = encoder(lambda texts: [torch.ones(len(text), 3).numpy() for text in texts]).encode(["ab", "c"])
    assert [tuple(tokens.shape) for tokens in embeddings] == [(2, 3), (1, 3)]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: [torch.ones(1, 3)], "gave 1 results for 2 texts"),
        (lambda texts: [torch.ones(1, 4)] * 2, r"made \(1, 4\) of 'ab': expected \(tokens, 3\)"),
        (lambda texts: [torch.ones(3)] * 2, r"made \(3,\) of 'ab'"),
        (lambda texts: [torch.ones(0, 3)] * 2, r"made \(0, 3\) of 'ab'.*at least one token"),
        (lambda texts: [torch.full((1, 3), torch.nan)] * 2, r"made \(1, 3\) of 'ab'.*without NaN"),
        (lambda texts: 1 / 0, r"failed: ZeroDivisionError"),
    ],
)
def test_other_answers_are_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(InputError, match=f"encoder mine:encode of 'cell' {message}"):
        encoder(function).encode(["ab", "c"])


def test_entry_points() -> None:
    assert entry_point("json:dumps")([1]) == "[1]"  # type: ignore[arg-type]
    assert source_digest("json:dumps") == source_digest("json:loads") != source_digest("shutil:copy")
    faults = {"nowhere:f": "cannot be imported", "json:f": "cannot be imported", "sys:path": "is a list"}
    for entry, message in faults.items():
        with pytest.raises(ConfigError, match=f"encoder '{entry}' {message}"):
            entry_point(entry)
