"""``fetch`` and ``verify`` of ``python -m src.tasks``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.paths import user_path
from esmerge.storage.usable import check_folder
from esmerge.tasks.fetch.ledger import Ledger
from esmerge.tasks.fetch.making import as_remote_file, bring_derived
from esmerge.tasks.fetch.placing import check, place_file
from esmerge.tasks.fetch.retry import RetryPolicy
from esmerge.tasks.fetch.sources import RemoteFile, UpstreamTable, select_tables, upstream
from esmerge.tasks.fetch.transfer import download
from esmerge.tasks.fetch.wheel import bring_packaged


def describe_tables(tables: dict[str, UpstreamTable]) -> str:
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
    usage = "python -m src.tasks fetch NAME [NAME …] root=FOLDER   (a name, or a collection in brackets for all of it)"
    return "\n\n".join([*parts, usage])


def fetch(names: Sequence[str], root: str | None, wheel: str | None = None, retry: RetryPolicy | None = None) -> None:
    """Bring tables under ``root``, one after the other; without names, say what there is.

    A table that cannot be had does not keep the others from coming: the failures are raised together at the end.

    Raises:
        ConfigError: an unknown name or no root.
        InputError: naming every table that could not be had, and why.
        StoreError: nothing can be written under ``root``.
    """
    tables = upstream()
    if not names:
        print(describe_tables(tables))
        return
    selected, failures = select_tables(names, tables), []
    check_folder(folder(root), "root")
    for table in selected:
        try:
            _fetch_table(table, folder(root), wheel, retry)
        except InputError as error:
            failures.append(f"{table.name}: {error}")
            print(f"{table.name}: failed", flush=True)
    if failures:
        raise InputError("\n".join(["not everything could be fetched", *failures]))


def verify(names: Sequence[str], root: str | None) -> None:
    """Compute the checksums of the tables under ``root`` anew; without names, of all that are there or recorded.

    Raises:
        ConfigError: an unknown name or no root.
        InputError: a table is missing or has not the published or recorded checksum, or there is none to verify.
    """
    target, tables = folder(root), upstream()
    if not target.is_dir():
        raise InputError(f"root={root} is no folder: give the one that the tables were fetched into")
    ledger, all_files = Ledger(target), _files(tables.values())
    recorded = ledger.records()
    files = _files(select_tables(names, tables)) if names else all_files
    present = [file for file in files if names or file.to in recorded or (target / file.to).exists()]
    verdicts = [_verdict(file, target, ledger) for file in present]
    failures = [failure for failure in verdicts if failure]
    stray = set(recorded) - {file.to for file in all_files}
    failures += [f"{ledger.path} has an entry {key!r} that no source explains: delete it" for key in sorted(stray)]
    if failures:
        raise InputError("\n".join([f"{len(failures)} of {len(present) + len(stray)} failed", *failures]))
    if not present:
        raise InputError(f"no table of a known source lies under {target}: `python -m src.tasks fetch` lists them")


def folder(root: str | None) -> Path:
    """The folder for the tables; raises ``ConfigError`` without one."""
    if root is None:
        raise ConfigError("root is not set: give the folder for the tables, e.g. root=../tables")
    return user_path(root, "root")


def _fetch_table(table: UpstreamTable, root: Path, wheel: str | None, retry: RetryPolicy | None) -> None:
    for file in table.files:
        bring = bring_packaged(table, file, wheel) if table.package else _bring(file, retry)
        _say(place_file(file, root, bring), file, root)
    if table.derived:
        file = as_remote_file(table.derived)
        _say(place_file(file, root, bring_derived(table.derived, root)), file, root)
    if table.note:
        print(f"{'':<9}note: {table.note}", flush=True)
    if table.use:
        print(f"{'':<9}use with {table.use}", flush=True)


def _bring(file: RemoteFile, retry: RetryPolicy | None) -> Callable[[Path], Path]:
    return lambda target: download(file.url, target, retry).path


def _say(outcome: str, file: RemoteFile, root: Path) -> None:
    record = Ledger(root).records()[file.to]
    print(f"{outcome:<9}{root / file.to}  {record.bytes} bytes  sha256 {record.sha256}", flush=True)


def _files(tables: Iterable[UpstreamTable]) -> list[RemoteFile]:
    """All files of the tables, derived tables included."""
    return [
        file for table in tables for file in (*table.files, *([as_remote_file(table.derived)] if table.derived else []))
    ]


def _verdict(file: RemoteFile, root: Path, ledger: Ledger) -> str | None:
    """Print the state of a file; returns what is wrong with it, None if nothing is."""
    path, failure, state = root / file.to, None, "ok"
    try:
        if not path.exists():
            raise InputError(f"{path} is missing: fetch it")
        digest = check(file, path, ledger)
        if file.to not in ledger.records() and file.sha256 is None and file.git_blob is None:
            state = f"nothing to compare with; fetch it to record {digest}"
    except InputError as error:
        state, failure = "FAILED", str(error)
    print(f"{file.to}: {state}", flush=True)
    return failure
