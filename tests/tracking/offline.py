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
    while (wandb_run := _read(path)).exit_code is None and time.monotonic() < end:
        time.sleep(0.02)
    return wandb_run


def _read(path: Path) -> OfflineRun:
    wandb_run = OfflineRun()
    for payload in _payloads(path.read_bytes()):
        record = Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            wandb_run.run = record.run
            wandb_run.config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        elif kind == "history":
            wandb_run.history.append(_items(record.history.item))
        elif kind == "summary":
            wandb_run.summary.update(_items(record.summary.update))
        elif kind == "artifact":
            wandb_run.artifacts += [record.artifact] if record.artifact.type != "run_table" else []  # of every table
        elif kind == "exit":
            wandb_run.exit_code = record.exit.exit_code
    return wandb_run


def _items(items: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        *parents, name = list(item.nested_key) or [item.key]
        inner = values
        for key in parents:
            inner = inner.setdefault(key, {})
        inner[name] = json.loads(item.value_json)
    return values


def _payloads(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    position, parts = FILE_HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        chunk = content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts
