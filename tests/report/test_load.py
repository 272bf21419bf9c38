from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from tests.report.synthetic import SUITE, add_run, fail_run

from esmerge.report.load import flatten, load_sweep
from esmerge.storage.checksums import checksums
from esmerge.tracking.store import REPORTED, RunFolder


def test_rows_come_floors_first_and_controls_last(one_seed: Path) -> None:
    methods = [row.method for row in load_sweep(one_seed).rows]
    references = ["majority", "base", "expert:cell", "expert:molecule", "expert:protein", "finetuned"]
    assert methods == [*references, "average", "task_arithmetic", "ties", "es", "es", "es_shuffled"]


def test_granularities_are_rows_of_their_own(one_seed: Path) -> None:
    titles = [row.title for row in load_sweep(one_seed).rows if row.method == "es"]
    assert [title.split(" (")[1] for title in titles] == ["layer, factors)", "joint, factors)"]


def test_seeds_make_one_row_and_settings_make_two(tmp_path: Path) -> None:
    for seed in (0, 1):
        for scale in (1.0, 2.1):
            config = {"method": {"name": "average", "scale": scale}}
            add_run(tmp_path, f"average_{scale}_{seed}", "average", 0.6, seed=seed, config=config, n=20)
    rows = load_sweep(tmp_path).rows
    assert sorted(row.title for row in rows) == ["Average (scale=1.0)", "Average (scale=2.1)"]
    assert all(set(row.runs) == {"0", "1"} for row in rows)


def test_rows_stand_in_the_order_of_their_settings(tmp_path: Path) -> None:
    """Numbers by size and words by the alphabet, whatever their runs are called."""
    settings = [(10.0, "b"), (2.0, "b"), (0.5, "b"), (0.5, "a"), (None, "b")]
    for place, (scale, mode) in enumerate(settings):
        config = {"method": {"name": "average", "scale": scale, "mode": mode}}
        add_run(tmp_path, f"average-{place}", "average", 0.6, config=config, n=20)
    labels = [row.title.removeprefix("Average (") for row in load_sweep(tmp_path).rows]
    scales = ("None", "0.5", "2.0", "10.0")
    assert labels == ["mode=a, scale=0.5)", *(f"mode=b, scale={scale})" for scale in scales)]


def test_shots_tell_rows_apart_in_plain_words(tmp_path: Path) -> None:
    for shots in (None, 3):
        config = {"benchmark": {"name": "x", "shots": shots}}
        add_run(tmp_path, f"base_{shots}", "base", 0.6, config=config, n=20)
    assert sorted(row.title for row in load_sweep(tmp_path).rows) == ["Base model (0-shot)", "Base model (3-shot)"]


def test_no_seed_counts_twice_in_a_row(tmp_path: Path) -> None:
    for number, shots in enumerate((None, 0, 3)):  # the first two say the same
        config = {"benchmark": {"name": "x", "shots": shots}}
        add_run(tmp_path, f"base_{number}", "base", 0.5 + 0.1 * number, config=config, n=20)
    rows = load_sweep(tmp_path).rows
    assert all(list(row.runs) == ["0"] for row in rows)
    assert sorted(row.title for row in rows) == [
        "Base model (0-shot)",
        "Base model (0-shot, base_1)",
        "Base model (3-shot)",
    ]


def test_what_differs_from_the_published_questions_is_gathered_over_runs(tmp_path: Path) -> None:
    for method, limit in {"base": None, "average": 20, "ties": 30}.items():
        add_run(tmp_path, method, method, 0.5, n=20, terms={"limit": limit, "split": "published"})
    departures = [f"at most {limit} test questions (benchmark.limit={limit})" for limit in (20, 30)]
    assert all(list(benchmark.departures) == departures for benchmark in load_sweep(tmp_path).benchmarks)


def test_benchmarks_are_grouped_by_family(tmp_path: Path) -> None:
    suite = dict(reversed(SUITE.items())) | {"new": ("New", "solubility")}
    add_run(tmp_path, "base", "base", 0.5, n=20, suite=suite)
    families = [benchmark.family for benchmark in load_sweep(tmp_path).benchmarks]
    assert families == ["cross_modal", "cross_modal", "drug_drug", "retention", "retention", "solubility"]


def test_failures_are_kept_by_name(tmp_path: Path) -> None:
    add_run(tmp_path, "base", "base", 0.5, n=20)
    fail_run(tmp_path, "es", ValueError("bad rank"))
    sweep = load_sweep(tmp_path)
    assert sweep.failures["es"].reason == "ValueError: bad rank"
    assert [row.method for row in sweep.rows] == ["base"]


def test_settings_are_flattened_without_places_and_seeds() -> None:
    config = {"seed": 1, "method": {"name": "es", "scale": 2, "inner": {"p": None}}, "tracking": {"mode": "offline"}}
    assert flatten(config) == {"method.scale": "2", "method.inner.p": "None"}


def test_names_folders_and_seeds_inside_a_setting_tell_rows_apart(tmp_path: Path) -> None:
    for place, (name, folder, seed) in enumerate([("a", "x", 0), ("b", "x", 0), ("b", "y", 0), ("b", "y", 1)]):
        encoder = {"name": name, "seed": seed}
        config = {"specialists": {"name": "s", "encoders": {"molecule": encoder}}, "probe": {"folder": folder}}
        add_run(tmp_path, f"average-{place}", "average", 0.6, config=config, n=20)
    rows = load_sweep(tmp_path).rows
    assert len(rows) == 4 and all(list(row.runs) == ["0"] for row in rows)
    assert flatten(config)["specialists.encoders.molecule.seed"] == "1"


def test_a_run_whose_accuracy_is_no_number_never_ranks(tmp_path: Path) -> None:
    for method in ("base", "average", "ties"):
        add_run(tmp_path, method, method, 0.5)
    path = tmp_path / "ties" / "metrics.csv"
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    table.loc[table["metric"] == "accuracy", "value"] = ""
    table.to_csv(path, index=False)
    run = RunFolder(path.parent)  # as if it had been written so
    run._write(replace(run.status(), checksums=checksums(run.path, [run.path / name for name in REPORTED])))
    sweep = load_sweep(tmp_path)
    assert [row.method for row in sweep.rows] == ["base", "average"]
    assert "is not a number" in sweep.failures[path.parent.name].reason
