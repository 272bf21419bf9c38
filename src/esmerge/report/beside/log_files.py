"""Files of other programs' logs as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from esmerge.core.errors import InputError
from esmerge.core.text_files import read_text
from esmerge.report.beside.log_records import Record

FORMS = (".jsonl", ".json", ".eval")
COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
ARCHIVE = ".eval"
COMPLETE = "success"  # the status of a log of Inspect that went through


@dataclass(frozen=True)
class LogFile:
    """One file.

    Attributes:
        records: where each stands, and the record.
        task, model: that the file names; empty where it does not.
        is_log: False for JSON of another kind; lm-evaluation-harness writes a summary beside its samples.
        is_complete: False where the file says that its evaluation ended early.
    """

    records: Iterable[tuple[str, Record]] = ()
    task: str = ""
    model: str = ""
    is_log: bool = True
    is_complete: bool = True


def log_files(folder: Path) -> list[Path]:
    """Every file below a folder that may be a log, compressed or not, sorted."""
    return sorted(file for file in folder.rglob("*") if _form(file) in FORMS and file.is_file())


def log_name(file: Path) -> str:
    """The file's name without what its form and its compression add to it."""
    return _uncompressed(file).stem


def read_log(file: Path) -> LogFile:
    """A file's records, as they are needed.

    Raises:
        InputError: the file is Inspect's archive or no JSON; while ``records`` are read, a line is no JSON object.
    """
    if _form(file) == ARCHIVE:
        raise InputError(
            f"{file} is an archive of Inspect: make JSON of it, `inspect log convert --to json`, and give that"
        )
    return _whole_log(file) if _form(file) == ".json" else LogFile(_lines(file))


def _lines(file: Path) -> Iterator[tuple[str, Record]]:
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            yield where, _object(line, where)


def _whole_log(file: Path) -> LogFile:
    log = _object(read_text(file), str(file))
    about, samples = log.get("eval"), log.get("samples")
    if not isinstance(about, dict):
        return LogFile(is_log=False)
    return LogFile(
        records=_samples(file, samples if isinstance(samples, list) else []),
        task=str(about.get("task", "")),
        model=str(about.get("model", "")),
        is_complete=log.get("status", COMPLETE) == COMPLETE,
    )


def _samples(file: Path, samples: list[object]) -> Iterator[tuple[str, Record]]:
    for number, sample in enumerate(samples, start=1):
        where = f"{file}, sample {number}"
        if not isinstance(sample, dict):
            raise InputError(f"{where}: {type(sample).__name__}, expected a JSON object")
        yield where, sample


def _object(text: str, where: str) -> Record:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: no JSON ({error}): expected one object per line") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: {type(record).__name__}, expected a JSON object")
    return record


def _form(file: Path) -> str:
    return _uncompressed(file).suffix


def _uncompressed(file: Path) -> Path:
    return file.with_suffix("") if file.suffix in COMPRESSED else file
