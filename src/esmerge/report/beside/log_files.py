"""Files of other programs' logs as records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from esmerge.core.errors import InputError
from esmerge.core.text_files import read_text
from esmerge.report.beside.log_records import Record

FORMS = (".jsonl", ".json", ".eval")
ARCHIVE = ".eval"


def records(file: Path) -> Iterator[tuple[str, Record, str]]:
    """Each record of a file: where it stands, the record, and the task that the file names; empty where it does not.

    A ``.json`` file that is no log of Inspect (lm-evaluation-harness writes a summary beside its samples) has none.

    Raises:
        InputError: a line is no JSON object, or the file is Inspect's archive.
    """
    if file.suffix == ARCHIVE:
        raise InputError(
            f"{file} is an archive of Inspect: make JSON of it, `inspect log convert --to json`, and give that"
        )
    if file.suffix == ".json":
        yield from _whole_log(file)
        return
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            yield where, _object(line, where), ""


def _whole_log(file: Path) -> Iterator[tuple[str, Record, str]]:
    log = _object(read_text(file), str(file))
    about, samples = log.get("eval"), log.get("samples")
    if isinstance(about, dict) and isinstance(samples, list):
        for number, sample in enumerate(samples, start=1):
            where = f"{file}, sample {number}"
            if not isinstance(sample, dict):
                raise InputError(f"{where}: {type(sample).__name__}, expected a JSON object")
            yield where, sample, str(about.get("task", ""))


def _object(text: str, where: str) -> Record:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: no JSON ({error}): expected one object per line") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: {type(record).__name__}, expected a JSON object")
    return record
