"""What specialists have seen in training: questions that hold nothing else are left out of a test.

Whoever was taught that a molecule inhibits an enzyme may remember it. A folder lists what was seen, as
``python -m src.train … seen=FOLDER`` writes it for specialists that are trained here: ``MODALITY.txt`` with one entity
a line, in any form that a table may have. A question is asked if one of its entities is not listed under its modality.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from esmerge.core.errors import InputError, shown
from esmerge.core.paths import user_path
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.text_files import read_text
from esmerge.data.identity import text_identity
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import canonical_sequence, gene_list
from esmerge.data.tables import note_lookup
from esmerge.storage.files import write_text
from esmerge.tasks.api import BenchmarkRequest

SUFFIX = ".txt"
CELL = "cell"
FORMS: Mapping[str, Callable[[str], str]] = {  # modality -> the form that questions hold
    "molecule": canonical_smiles,
    "protein": canonical_sequence,
    CELL: gene_list,
}
ASKED = ("validation", "test")
REASON = "the specialists have seen all of it (benchmark.seen)"
Seen = Mapping[str, Iterable[str]]
"""Modality -> entities as they stand in questions: SMILES, residues, genes."""


def write_seen(seen: Seen, folder: Path) -> list[Path]:
    """Write a file for each modality; returns them.

    Warns of entities that no question can hold, e.g. a SMILES that cannot be read, which are left out.

    Raises:
        InputError: an entity has several lines.
    """
    paths = []
    for modality, entities in seen.items():
        distinct = list(dict.fromkeys(entities))
        if broken := [entity for entity in distinct if len(entity.splitlines()) != 1]:
            raise InputError(f"{modality} {broken[0]!r}: expected one line, since a list has one entity a line")
        readable = [entity for entity in distinct if _fault(modality, entity) is None]
        if len(readable) < len(distinct):
            unreadable = next(entity for entity in distinct if _fault(modality, entity) is not None)
            warnings.warn(
                f"{len(distinct) - len(readable)} of {len(distinct)} entities under {modality} are not listed, since "
                f"no question can hold them, e.g. {shown(unreadable)}",
                stacklevel=2,
            )
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{modality}{SUFFIX}")
        write_text(paths[-1], "".join(f"{entity}\n" for entity in readable))
    return paths


def other_lists(folder: Path, written: Iterable[Path]) -> list[Path]:
    """Lists that lay in a folder before, of modalities that were not written now: ``benchmark.seen`` reads them too."""
    return sorted(set(folder.glob(f"*{SUFFIX}")) - set(written))


def read_seen(folder: str, benchmark: str, modalities: Iterable[str] = ()) -> dict[str, list[str]]:
    """Modality -> the entities that its file lists, in the form that questions hold: canonical SMILES, residues, genes.

    Args:
        modalities: of the benchmark, which may have a list as well as those of ``FORMS``.

    Raises:
        InputError: no such folder, no list in it, a list that is named after no modality, or a line that is no entity.
    """
    path = user_path(folder, "benchmark.seen")
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
    if not files:
        raise InputError(
            f"benchmark {benchmark!r}: benchmark.seen={folder} is no folder with files MODALITY{SUFFIX}, one entity a "
            "line: `python -m src.train … seen=FOLDER` writes one of specialists that are trained here"
        )
    for file in files:
        _check_modality(file, list(dict.fromkeys([*FORMS, *modalities])), benchmark)
        note_lookup(file)
    return {file.stem: _read_list(file, benchmark) for file in files}


def unseen(
    frame: pd.DataFrame, columns: Mapping[str, str], request: BenchmarkRequest
) -> tuple[pd.DataFrame, list[Reject]]:
    """The rows without questions of validation and test that hold nothing new, and what was left out.

    Args:
        frame: rows with ``row``, ``side`` and one column per entity.
        columns: perceived entities' column -> modality. A molecule is the same in all forms that
            ``esmerge.data.identity`` calls one connectivity, a cell if its genes are the first of a listed one.

    Raises:
        InputError: the folder of ``request.seen`` cannot be read, or the specialists have seen all of the test.

    Warns of a modality without a list: each of its entities counts as new, so no question can be left out.
    """
    if request.seen is None or not columns:
        return frame, []
    entities = read_seen(request.seen, request.name, columns.values())
    if absent := [modality for modality in dict.fromkeys(columns.values()) if modality not in entities]:
        warnings.warn(
            f"benchmark {request.name!r}: benchmark.seen={request.seen} has no {absent[0]}{SUFFIX}, so each "
            f"{absent[0]} counts as new, and no question is left out",
            stacklevel=2,
        )
    is_queried = frame["side"].isin(ASKED).to_numpy()
    is_known = is_queried.copy()
    for column, modality in columns.items():
        is_known[is_known] = _is_listed(frame.loc[is_known, column], modality, entities.get(modality, []))
    remaining = frame[~is_known]
    if not (remaining["side"] == "test").any():
        raise InputError(
            f"benchmark {request.name!r}: benchmark.seen={request.seen} lists all entities of all "
            f"{int(is_queried.sum())} questions of validation and test: nothing is left to ask; take another benchmark "
            "or another split"
        )
    return remaining, [Reject(row, REASON) for row in frame.loc[is_known, "row"]]


def marked(benchmark: Benchmark, request: BenchmarkRequest) -> Benchmark:
    """The benchmark with a checksum over the lists as well, if there are any."""
    if request.seen is None:
        return benchmark
    modalities = {entity.modality for example in benchmark.test for entity in example.entities()}
    made_of = (benchmark.checksum, sorted(read_seen(request.seen, request.name, modalities).items()))
    return replace(benchmark, checksum=hashlib.sha256(repr(made_of).encode()).hexdigest())


def _check_modality(file: Path, modalities: list[str], benchmark: str) -> None:
    if file.stem in modalities:
        return
    nearest = get_close_matches(file.stem.lower(), modalities, n=1, cutoff=0.0)
    raise InputError(
        f"benchmark {benchmark!r}: {file} is named after no modality, those are {', '.join(modalities)}, so nothing "
        f"reads it: did you mean {nearest[0]}{SUFFIX}?"
    )


def _read_list(file: Path, benchmark: str) -> list[str]:
    """The entities of a list; blank lines are none."""
    form, entities = FORMS.get(file.stem, str), []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            try:
                entities.append(form(line.strip()))
            except InputError as error:
                raise InputError(
                    f"benchmark {benchmark!r}: {file}, line {number}: {error}. Expected one {file.stem} a line, "
                    "without a header, names or other columns"
                ) from error
    return entities


def _fault(modality: str, entity: str) -> str | None:
    """Why no question can hold an entity; None if one can."""
    try:
        FORMS.get(modality, str)(entity)
    except InputError as error:
        return str(error)
    return None


def _is_listed(values: pd.Series, modality: str, entities: Iterable[str]) -> NDArray[np.bool_]:
    """(n,) whether each value is one of the entities."""
    distinct = list(map(str, values.unique()))
    if modality == CELL:  # whose genes questions cut to a number of their own
        lists = [entity.split() for entity in entities]
        lengths = {len(value.split()) for value in distinct}
        forms = {" ".join(genes[:length]) for genes in lists for length in lengths if len(genes) >= length}
        is_form = {value: value in forms for value in distinct}
    else:
        same = text_identity(modality)
        forms = {same(entity) for entity in entities}
        is_form = {value: same(value) in forms for value in distinct}
    return values.map(is_form).to_numpy(dtype=bool)
