"""Whether what a finished run was made of is still what it was: tables, probe files, adapters and checkpoints.

A run's config names files, and its hash says nothing of what they hold. So each run notes them by content. A file whose
size and times are as they were is not read again, and tables are loaded only where a file in their folder changed, or
where they are read anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from esmerge.core.errors import BenchError, StoreError
from esmerge.core.progress import say
from esmerge.core.prompts import Benchmark
from esmerge.evaluation.predictions import ids_and_labels
from esmerge.experiment.config import Sweep
from esmerge.experiment.context import forget_specialists
from esmerge.experiment.input_files import (
    benchmark_nodes,
    present,
    probe_files,
    specialist_files,
    table_folders,
    tables_elsewhere,
)
from esmerge.experiment.plan import RunSpec
from esmerge.experiment.records import describe_benchmark
from esmerge.experiment.suite import load_suite
from esmerge.storage.cache import digest
from esmerge.storage.files import file_sha256
from esmerge.tracking.questions import questions_file
from esmerge.tracking.store import RunFolder

CONFIGS = "benchmark configs"  # beside the folders, whose names are absolute paths

Stamp = list[int]
"""Size in bytes, and the times of the last change of content and of the entry, in ns: equal ones mean one file."""


@dataclass(frozen=True)
class FileNote:
    """A file that a run was made of: what it is in words, its stamp and its content."""

    what: str
    stamp: Stamp
    sha256: str


@dataclass(frozen=True)
class Inputs:
    """What a run's ``inputs.json`` holds.

    Attributes:
        files: path -> note.
        folders: path of a folder with tables -> digest of the stamps of all files in it, and of tables elsewhere;
            ``CONFIGS`` -> digest of the benchmarks' configs.
    """

    files: Mapping[str, FileNote] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


def read_inputs(run: RunFolder) -> Inputs:
    """What a run notes; nothing where its note is damaged, or of an earlier version that wrote none."""
    try:
        record = run.read_inputs()
        files = {str(path): FileNote(**note) for path, note in record.get("files", {}).items()}
        return Inputs(files, dict(record.get("folders", {})))
    except (StoreError, AttributeError, TypeError, ValueError):
        return Inputs()


_SHA256: dict[tuple[str, ...], str] = {}  # path and stamp -> checksum: large files are read once per process
_LOADED: dict[str, FileNote] = {}  # the specialists' files as they were when this process first came to them


@dataclass
class CurrentData:
    """The data as they lie there now; each folder is looked through once, so make another one for each job."""

    _folders: dict[Path, str] = field(default_factory=dict)
    _suites: dict[int, tuple[Benchmark, ...]] = field(default_factory=dict)
    _questions: dict[int, str] = field(default_factory=dict)

    def note(self, spec: RunSpec, run: RunFolder) -> None:
        """Note in a run's folder what it is about to be made of."""
        specialists = present(specialist_files(spec))
        _LOADED.update(_notes({path: what for path, what in specialists.items() if _name(path) not in _LOADED}))
        loaded = {_name(path): _LOADED[_name(path)] for path in specialists}
        files = {**loaded, **_notes(probe_files(spec))}
        run.write_inputs(asdict(Inputs(files, self._stamps(spec.sweep))))

    def changes(self, spec: RunSpec, run: RunFolder) -> list[str]:
        """What a finished run was made of that is something else now, in words; empty where all is as it was.

        What is not there any more cannot be compared, and counts as unchanged. Of a run that notes nothing, as earlier
        versions left them, the benchmarks alone are compared.
        """
        noted = read_inputs(run)
        changed = list(dict.fromkeys(note.what for path, note in noted.files.items() if _has_changed(path, note)))
        if changed:
            forget_specialists()  # those in memory are of the files before
            _LOADED.clear()
        stamps = self._stamps(spec.sweep)
        if stamps == noted.folders and spec.sweep.split == "test":
            return changed
        benchmarks = self._changed_benchmarks(spec, run)
        if stamps != noted.folders and not changed and not benchmarks:  # so that the next command reads no table
            run.write_inputs(asdict(replace(noted, folders=stamps)))
        return [*changed, *benchmarks]

    def _stamps(self, sweep: Sweep) -> dict[str, str]:
        nodes, places = benchmark_nodes(sweep), [*table_folders(sweep), *tables_elsewhere(sweep)]
        for place in places:
            if place not in self._folders:
                files = _files_below(place) if place.is_dir() else [place]
                self._folders[place] = digest([[str(path), _stamp(path)] for path in files])
        return {CONFIGS: digest(nodes)} | {_name(place): self._folders[place] for place in places}

    def _changed_benchmarks(self, spec: RunSpec, run: RunFolder) -> list[str]:
        try:
            suite = self._suite(spec.sweep)
        except BenchError as error:
            say(f"{spec.name} stays as it is: its benchmarks cannot be compared ({error})")
            return []
        stored, changed = run.read_benchmarks(), []
        for benchmark in suite:
            before, now = stored.get(benchmark.name), describe_benchmark(benchmark, spec.sweep)
            if before is None:  # the method had no answer to it
                continue
            if before.get("checksum") != now["checksum"]:
                changed.append(f"the table of {benchmark.name}")
            elif before.get("n") != now["n"] or before.get("questions") not in (None, self._questions_of(benchmark)):
                changed.append(f"the questions of {benchmark.name}")
            elif _other_answers(run, benchmark):
                changed.append(f"the right answers of {benchmark.name}")
        return changed

    def _suite(self, sweep: Sweep) -> tuple[Benchmark, ...]:
        if id(sweep) not in self._suites:
            self._suites[id(sweep)] = load_suite(sweep)
        return self._suites[id(sweep)]

    def _questions_of(self, benchmark: Benchmark) -> str:
        if id(benchmark) not in self._questions:
            self._questions[id(benchmark)] = questions_file(benchmark)[0]
        return self._questions[id(benchmark)]


def make_again(spec: RunSpec, run: RunFolder, changed: Iterable[str]) -> None:
    """Delete the results of a run whose data changed, and say so.

    Args:
        changed: what, in words; see ``CurrentData.changes``.
    """
    say(f"{spec.name}: {', '.join(changed)} changed since; made again")
    for benchmark in run.read_benchmarks():
        (run.path.parent / "rejects" / f"{benchmark}.csv").unlink(missing_ok=True)  # of the table as it was
    run.discard()


def _notes(files: Mapping[Path, str]) -> dict[str, FileNote]:
    return {_name(path): FileNote(what, _stamp(path), _sha256(path)) for path, what in present(files).items()}


def _name(path: Path) -> str:
    """The same from whatever folder a command is given in."""
    return str(path.absolute())


def _has_changed(path: str, note: FileNote) -> bool:
    file = Path(path)
    if not file.is_file() or _stamp(file) == note.stamp:
        return False
    return _sha256(file) != note.sha256


def _sha256(path: Path) -> str:
    key = (str(path), *map(str, _stamp(path)))
    if key not in _SHA256:
        _SHA256[key] = file_sha256(path)
    return _SHA256[key]


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _other_answers(run: RunFolder, benchmark: Benchmark) -> bool:
    """Whether a run's answers were held against other right ones, or are to other questions."""
    answers = run.read_predictions(benchmark.name)
    if answers is None:
        return False
    return any(answers[column].astype(str).tolist() != values for column, values in ids_and_labels(benchmark).items())


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted; links are followed, each folder once."""
    files, seen = list[Path](), set[str]()
    for parent, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(parent))
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in seen]
        files += [Path(parent) / name for name in names]
    return sorted(path for path in files if path.is_file())
