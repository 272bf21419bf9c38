"""What an offline W&B run holds: its records, read with the client's own message types."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

FILE_HEADER, BLOCK, HEADER = 7, 32768, 7  # bytes; a log of LevelDB's form, whose chunks never cross a block
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """A W&B run as its file tells it."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: list[Any] = field(default_factory=list)


def read_offline(folder: Path, seconds: float = 120.0) -> OfflineRun:
    """The one run whose files lie in a folder; the client's process writes its end a moment after the run."""
    end = time.monotonic() + seconds
    while not any(folder.glob("*.wandb")) and time.monotonic() < end:
        time.sleep(0.02)
    (path,) = folder.glob("*.wandb")
    while (told := _read(path)).exit_code is None and time.monotonic() < end:
        time.sleep(0.02)
    return told


def _read(path: Path) -> OfflineRun:
    told = OfflineRun()
    for payload in _payloads(path.read_bytes()):
        record = Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told.run = record.run
            told.config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        elif kind == "history":
            told.history.append(_items(record.history.item))
        elif kind == "summary":
            told.summary.update(_items(record.summary.update))
        elif kind == "artifact":
            told.artifacts += [record.artifact] if record.artifact.type != "run_table" else []  # of every table
        elif kind == "exit":
            told.exit_code = record.exit.exit_code
    return told


def _items(items: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        *above, name = list(item.nested_key) or [item.key]
        inner = values
        for key in above:
            inner = inner.setdefault(key, {})
        inner[name] = json.loads(item.value_json)
    return values


def _payloads(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    at, parts = FILE_HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        chunk = content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts
