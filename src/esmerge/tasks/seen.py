"""What specialists have seen in training: questions that hold nothing else are left out of a test.

Whoever was taught that a molecule inhibits an enzyme may remember it. A folder lists what was seen, as
``python -m src.train … seen=FOLDER`` writes it for specialists that are trained here: ``MODALITY.txt`` with one entity
a line. A question is asked if one of its entities is not listed under its modality.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import InputError
from esmerge.core.paths import user_path
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.text_files import read_text
from esmerge.data.identity import text_identity
from esmerge.data.tables import note_lookup
from esmerge.storage.files import write_text
from esmerge.tasks.api import BenchmarkRequest

SUFFIX = ".txt"
ASKED = ("validation", "test")
REASON = "the specialists have seen all of it (benchmark.seen)"
Seen = Mapping[str, Iterable[str]]
"""Modality -> entities as they stand in questions: SMILES, residues, genes."""


def write_seen(seen: Seen, folder: Path) -> list[Path]:
    """Write a file for each modality; returns them.

    Raises:
        InputError: an entity has several lines.
    """
    paths = []
    for modality, entities in seen.items():
        distinct = list(dict.fromkeys(entities))
        if broken := [entity for entity in distinct if len(entity.splitlines()) != 1]:
            raise InputError(f"{modality} {broken[0]!r}: expected one line, since a list has one entity a line")
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{modality}{SUFFIX}")
        write_text(paths[-1], "".join(f"{entity}\n" for entity in distinct))
    return paths


def other_lists(folder: Path, written: Iterable[Path]) -> list[Path]:
    """Lists that lay in a folder before, of modalities that were not written now: ``benchmark.seen`` reads them too."""
    return sorted(set(folder.glob(f"*{SUFFIX}")) - set(written))


def read_seen(folder: str, benchmark: str) -> dict[str, list[str]]:
    """Modality -> the entities that its file lists.

    Raises:
        InputError: no such folder, or no list in it.
    """
    path = user_path(folder, "benchmark.seen")
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
    if not files:
        raise InputError(
            f"benchmark {benchmark!r}: benchmark.seen={folder} is no folder with files MODALITY{SUFFIX}, one entity a "
            "line: `python -m src.train … seen=FOLDER` writes one of specialists that are trained here"
        )
    for file in files:
        note_lookup(file)
    return {file.stem: [line.strip() for line in read_text(file).splitlines() if line.strip()] for file in files}


def unseen(
    frame: pd.DataFrame, columns: Mapping[str, str], request: BenchmarkRequest
) -> tuple[pd.DataFrame, list[Reject]]:
    """The rows without questions of validation and test that hold nothing new, and what was left out.

    Args:
        frame: rows with ``row``, ``side`` and one column per entity.
        columns: perceived entities' column -> modality. A molecule is the same in all forms that
            ``esmerge.data.identity`` calls one connectivity.

    Raises:
        InputError: the folder of ``request.seen`` cannot be read, or the specialists have seen all of the test.
    """
    if request.seen is None or not columns:
        return frame, []
    entities, queried = read_seen(request.seen, request.name), frame["side"].isin(ASKED).to_numpy()
    is_known = queried.copy()
    for column, modality in columns.items():
        is_known[is_known] = _is_listed(frame.loc[is_known, column], modality, entities.get(modality, []))
    remaining = frame[~is_known]
    if not (remaining["side"] == "test").any():
        raise InputError(
            f"benchmark {request.name!r}: benchmark.seen={request.seen} lists all entities of all {int(queried.sum())} "
            "questions of validation and test: nothing is left to ask; take another benchmark or another split"
        )
    return remaining, [Reject(row, REASON) for row in frame.loc[is_known, "row"]]


def marked(benchmark: Benchmark, request: BenchmarkRequest) -> Benchmark:
    """The benchmark with a checksum over the lists as well, if there are any."""
    if request.seen is None:
        return benchmark
    made_of = (benchmark.checksum, sorted(read_seen(request.seen, request.name).items()))
    return replace(benchmark, checksum=hashlib.sha256(repr(made_of).encode()).hexdigest())


def _is_listed(values: pd.Series, modality: str, entities: Iterable[str]) -> NDArray[np.bool_]:
    """(n,) whether each value is one of the entities."""
    same = text_identity(modality)
    forms = {same(entity) for entity in entities}
    return values.map({value: same(value) in forms for value in values.unique()}).to_numpy(dtype=bool)
