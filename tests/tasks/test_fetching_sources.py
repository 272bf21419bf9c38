"""The table of official sources: complete, honest about names, usable as it says, and the same as the card."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.conftest import composed

from esmerge.experiment.config import read_sweep
from esmerge.storage.files import file_sha256
from esmerge.tasks.fetch.sources import select_tables, upstream
from esmerge.tasks.load import check_benchmarks

CARD = Path(__file__).parents[2] / "benchmarks" / "cards" / "SOURCES.md"
DATA = Path(__file__).parents[3] / "shared" / "data"
TABLES = upstream()


def test_official_sources_are_complete() -> None:
    targets = [target for table in TABLES.values() for target in table.targets]
    assert len(targets) == len(set(targets))
    files = [file for table in TABLES.values() for file in table.files]
    assert len({file.url for file in files}) == len(files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in files if file.sha256)
    assert all(re.fullmatch(r"[0-9a-f]{40}", file.git_blob) for file in files if file.git_blob)
    assert all(file.sha256 or file.git_blob for file in files if "githubusercontent" in file.url)
    assert all(
        table.derived is None or set() < set(table.derived.parts) <= {file.to for file in table.files}
        for table in TABLES.values()
    )
    assert [table.name for table in select_tables(["psichic", "human"], TABLES)] == ["human", "psichic_bindingdb"]


def test_tdc_is_never_taken_for_another_source() -> None:
    for table in TABLES.values():
        assert (table.collection == "tdc") == table.name.startswith("tdc_")
        assert all(target.startswith("tdc/") == (table.collection == "tdc") for target in table.targets)
        if table.collection == "tdc" and table.use:
            assert f"benchmark.name={table.name}" in table.use and "(TDC)" in table.use


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.use])
def test_a_table_can_be_used_as_it_says(name: str) -> None:
    sweep = read_sweep(composed(*shlex.split(TABLES[name].use), "benchmark.root=somewhere"))
    check_benchmarks(sweep.suite_request())
    benchmark = sweep.benchmark
    table = benchmark.get("table") or benchmark["pairs"]
    files = {table.replace("{split}", split) for split in benchmark.get("splits", {"": ""}).values()}
    assert all(file in TABLES[name].targets or f"saved as {file}" in saved(name) for file in files)
    keys = [word.partition("=")[0] for word in shlex.split(TABLES[name].use) if word.startswith("benchmark.columns.")]
    columns = re.split(r",| and ", TABLES[name].columns)
    assert all(benchmark["columns"][key.rpartition(".")[2]] in columns for key in keys)


def saved(name: str) -> str:
    """What must be done to a workbook before it can be used."""
    return re.sub(r"Save the workbook's sheet as|, saved as", "saved as", TABLES[name].note)


def test_a_pickle_says_so_and_what_to_do() -> None:
    for table in TABLES.values():
        if any(file.to.endswith(".pkl") for file in table.files):
            assert "pickle" in table.title and not table.use, table.name
            assert "CSV files" in table.note and "benchmark.root=" in table.note and "trust" in table.note


def test_the_card_names_every_table_and_its_terms() -> None:
    card = " ".join(CARD.read_text(encoding="utf-8").split())
    for table in TABLES.values():
        assert f"`{table.name}`" in card and table.home in card and table.licence in card


@pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")
def test_the_real_tables_are_those_that_would_be_made() -> None:
    derived_tables = [table.derived for table in TABLES.values() if table.derived]
    assert derived_tables and all(file_sha256(DATA / target.to) == target.sha256 for target in derived_tables)
