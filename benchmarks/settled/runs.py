"""What a page needs of a finished run: right or wrong on each question, the time it took, and what a tuning tried."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import InputError
from esmerge.tracking.store import RunFolder

DIGEST_BYTES = 8


@dataclass(frozen=True)
class Marks:
    """Right and wrong on one benchmark.

    Attributes:
        questions: (n,), a digest of each question's id, ascending.
        right: (n,).
        asked: digest of all ids with their labels: runs that have the same were asked the same.
    """

    questions: NDArray[np.uint64]
    right: NDArray[np.bool_]
    asked: str


@dataclass(frozen=True)
class FinishedRun:
    """One run.

    Attributes:
        marks: by benchmark.
        seconds: of measuring and merging; None where nothing is merged.
        trials: validation accuracy of each setting that a tuning tried, NaN for one that failed.
        made_by: code revision, configuration and libraries.
    """

    marks: Mapping[str, Marks]
    seconds: float | None = None
    trials: tuple[float, ...] = ()
    made_by: Mapping[str, object] = field(default_factory=dict)


def read_run(folder: RunFolder) -> FinishedRun:
    """What a run's folder holds.

    Raises:
        InputError: an id stands twice in a benchmark.
        StoreError: a file is damaged.
    """
    names = sorted(path.stem for path in (folder.path / "predictions").glob("*.csv"))
    frames = {name: frame for name in names if (frame := folder.read_predictions(name)) is not None}
    costs = folder.read_costs()
    trials = folder.read_tuning()
    provenance = folder.read_provenance()
    git = provenance.get("git")
    return FinishedRun(
        marks={name: _marks(frame, f"{folder.path}, {name}") for name, frame in frames.items()},
        seconds=sum(part["seconds"] or 0.0 for part in costs.values()) if costs else None,
        trials=() if trials is None else tuple(trials["accuracy"].astype(float)),
        made_by={
            "revision": git.get("revision") if isinstance(git, dict) else None,
            **{key: provenance[key] for key in ("config_hash", "libraries") if key in provenance},
        },
    )


def _marks(frame: pd.DataFrame, source: str) -> Marks:
    questions = np.array([_digest([name]) for name in frame["id"]], dtype=np.uint64)
    order = np.argsort(questions)
    questions = questions[order]
    if len(np.unique(questions)) < len(questions):
        raise InputError(f"{source}: an id stands twice; expected one line for each question, run the sweep again")
    right = (frame["label"] == frame["prediction"]).to_numpy(dtype=bool)[order]
    pairs = sorted(f"{name}\t{label}" for name, label in zip(frame["id"], frame["label"], strict=True))
    return Marks(questions, right, f"{_digest(pairs):016x}")


def _digest(texts: Iterable[str]) -> int:
    hashed = hashlib.blake2b("\n".join(texts).encode(), digest_size=DIGEST_BYTES)
    return int.from_bytes(hashed.digest(), "big")
