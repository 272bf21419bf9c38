"""The page that settles it: worlds apart, published beside tuned, and a verdict that follows from the answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.settled.__main__ import main, read_parts
from benchmarks.settled.archive import INDEX, is_archive, write_archive
from benchmarks.settled.figures import best_so_far
from benchmarks.settled.scores import answers, correct
from benchmarks.settled.standings import Standings, mean_ranks, standings, total_duels
from benchmarks.settled.summary import summary
from benchmarks.settled.verdict import controls, headline, verdicts
from benchmarks.settled.worlds import PROBE, TASK, WEIGHTS, World, information, is_ours, join_worlds
from tests.report.synthetic import SUITE, add_run, predictions, seal

from esmerge.core.errors import InputError, StoreError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.tracking.store import RunFolder

RATES = {
    "mild": {"average": 0.60, "ties": 0.70, "span_regression": 0.85},
    "strong": {"average": 0.66, "ties": 0.80, "span_regression": 0.80},
}
NEW = MethodRecord(MethodKind.MERGE, "Span regression", 2)
TRIALS = pd.DataFrame({"scale": [1.0, 2.0, 3.0], "accuracy": [0.6, 0.5, 0.7]})


def worlds_of(folders: Iterable[Path]) -> list[World]:
    return join_worlds(part for folder in folders for part in read_parts(folder))


def fill(sweep: Path, world: str, seed: int, rates: dict[str, float], tuned: bool = False) -> list[RunFolder]:
    """One run per merge; ``ties`` and its equals answer nested sets of questions."""
    runs = []
    for method, rate in rates.items():
        run = add_run(
            sweep, f"{method}-{world}-{seed}-{tuned}", method, rate, seed=seed, key="nested", specialists=world,
            record=NEW if method == "span_regression" else None, merge_space="delta",
            config={"tuning": {"trials": 3}} if tuned else None,
        )  # fmt: skip
        run.write_costs({"measuring": {"seconds": 1.0, "memory": 1.0}, "merging": {"seconds": 0.5, "memory": None}})
        if tuned:
            run.write_tuning(TRIALS)
        seal(run)
        runs.append(run)
    return runs


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two worlds in one sweep, and one of them tuned in another."""
    first, second = (tmp_path_factory.mktemp("settled") / name for name in ("published", "tuned"))
    for world, rates in RATES.items():
        for seed in (5, 6):
            fill(first, world, seed, rates)
    for seed in (5, 6):
        fill(second, "mild", seed, {"ties": 0.85}, tuned=True)
        fill(second, "mild", seed, {"average": 0.60})  # as references are, in every sweep
    return [first, second]


@pytest.fixture(scope="module")
def scored(sweeps: list[Path]) -> list[Standings]:
    return [standings(world) for world in worlds_of(sweeps)]


def test_worlds_are_told_apart_and_sweeps_joined(scored: list[Standings]) -> None:
    assert {standing.world.name: standing.world.seeds for standing in scored} == {
        "mild": ("5", "6"),
        "strong": ("5", "6"),
    }
    (mild, strong) = scored
    assert [contender.title for contender in mild.world.of(tuned=False)] == [
        "Average (delta)", "TIES (delta)", "Span regression (delta)",
    ]  # fmt: skip
    assert [contender.title for contender in mild.world.of(tuned=True)] == [
        "TIES (delta)"
    ]  # under one name with the published
    assert not strong.world.of(tuned=True)


def test_scores_are_the_share_of_right_answers(scored: list[Standings]) -> None:
    mild = scored[0]
    for contender in mild.world.of(tuned=False):
        score = mild.main.score(contender)
        assert score.value == pytest.approx(RATES["mild"][contender.method])
        assert score.low < score.value < score.high


def test_the_interval_resamples_seeds_and_questions(tmp_path: Path) -> None:
    """Two seeds of 0.4 and 0.8: resampled seeds alone give 0.4, 0.6 and 0.8, so the interval must reach both ends."""
    for seed, rate in ((5, 0.4), (6, 0.8)):
        fill(tmp_path, "mild", seed, {"average": rate, "ties": rate})
    (world,) = worlds_of([tmp_path])
    table = answers(world, world.columns[0])
    score = table.score(world.contenders[0])
    assert score.value == pytest.approx(0.6) and score.low < 0.42 and score.high > 0.78
    difference = table.difference(*world.contenders)
    assert difference.low == difference.high == 0.0 and difference.p == 1.0  # paired: what both share falls away


def test_with_one_seed_the_interval_is_that_of_a_share(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, {"average": 0.6})
    (world,) = worlds_of([tmp_path])
    score = answers(world, next(column for column in world.columns if column.family == "drug_drug"), 1000).score(
        world.contenders[0]
    )
    half = 1.96 * np.sqrt(0.6 * 0.4 / 200)
    assert (score.low, score.high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.012)


def test_wins_are_counted_and_ranks_are_means_over_worlds(scored: list[Standings]) -> None:
    assert scored[0].duels[False] == {
        "Span regression (delta)": (2, 0), "TIES (delta)": (1, 1), "Average (delta)": (0, 2),
    }  # fmt: skip
    assert total_duels(scored, tuned=False)["TIES (delta)"] == (2, 1)  # level in the other world
    assert mean_ranks(scored, tuned=False) == {
        "Span regression (delta)": 1.25, "TIES (delta)": 1.75, "Average (delta)": 3.0,
    }  # fmt: skip


def test_the_verdict_follows_from_the_answers(scored: list[Standings]) -> None:
    mild, strong = verdicts(scored, "span_regression")
    assert headline([mild, strong]).endswith("above every untuned rival in 1 of 2 worlds (mild).")
    assert not mild.unbeaten and [rival.method for rival in strong.level] == ["ties"] and not strong.below
    assert mild.tuned is not None and mild.tuned.rival.method == "ties" and not mild.tuned.difference.significant
    assert strong.tuned is None and strong.keeps_retention
    assert mild.untuned[0].difference.value == pytest.approx(0.15) and mild.untuned[0].difference.significant
    with pytest.raises(InputError, match="no sweep has a finished run of method=regmean"):
        verdicts(scored, "regmean")


def test_a_merge_that_is_behind_says_so(scored: list[Standings]) -> None:
    mild, strong = verdicts(scored, "ties")
    assert [rival.method for rival in mild.below] == ["span_regression"] and not mild.level
    assert [rival.method for rival in strong.level] == ["span_regression"] and not strong.below
    text = summary(scored, "ties")
    assert "above every untuned rival in 0 of 2 worlds." in text
    line = next(line for line in text.splitlines() if line.startswith("| mild, 2 seeds"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:4] == ["1 of 2", "–", "Span regression (delta)"] and cells[5].startswith("**-15.0 [")
    assert cells[6] == "–"  # another form of the merge is no rival


def test_the_summary_names_worlds_without_the_merge(sweeps: list[Path], tmp_path: Path) -> None:
    fill(tmp_path, "other", 5, {"ties": 0.6, "average": 0.5})
    text = summary([standings(world) for world in worlds_of([sweeps[0], tmp_path])], "span_regression")
    assert "No finished run of `span_regression`: other." in text and "in 1 of 2 worlds (mild)" in text
    assert "points less: it is kept." in text and "controls" not in text


def test_es_merging_stands_beside_its_controls(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, {"ties": 0.6, "span_regression": 0.7})
    for method, rate in {"es": 0.65, "es_shuffled": 0.6, "es_noise": 0.65}.items():
        axes = {"granularity": "joint", "merge_space": "factors"} if method == "es" else {}
        add_run(tmp_path, method, method, rate, seed=5, key="nested", specialists="mild", **axes)
    add_run(
        tmp_path, "d", "es", 0.9, seed=5, key="nested", specialists="mild", granularity="layer", merge_space="delta"
    )
    (mild,) = [standings(world) for world in worlds_of([tmp_path])]
    beside = controls(mild)
    assert beside is not None and beside.title == "ES-Merging (joint, factors)"
    differences = {comparison.rival.method: comparison.difference for comparison in beside.comparisons}
    assert differences["es_shuffled"].value == pytest.approx(0.05)
    assert differences["es_noise"].value == 0 and differences["es_noise"].p_holm == 1
    line = next(line for line in summary([mild], "span_regression").splitlines() if "noise for responses |" in line)
    assert line.endswith("| +0.0 [+0.0, +0.0] |")


def test_rivals_on_this_projects_choice_are_told_from_published_ones(tmp_path: Path) -> None:
    """RegMean on the experts' own tokens is level, on all tokens, as it was published, below."""
    rates = {"own": 0.80, "all": 0.60}
    for tokens, rate in rates.items():
        config = {"method": {"name": "regmean", "gram": {"tokens": tokens}}}
        add_run(tmp_path, f"regmean-{tokens}", "regmean", rate, seed=5, key="nested", specialists="mild",
                merge_space="delta", config=config, record=MethodRecord(MethodKind.MERGE, "RegMean", 3))  # fmt: skip
    fill(tmp_path, "mild", 5, {"span_regression": 0.80})
    text = summary([standings(world) for world in worlds_of([tmp_path])], "span_regression")
    assert "every untuned rival in 0 of 1 world; above every one that stands as its authors published it in" in text
    assert "in 1 of 1 world (mild)." in text
    assert "| RegMean (delta) (with a default of this project's) | – |" in text
    assert is_ours("regmean", "RegMean (delta)") and not is_ours("regmean", "RegMean (delta, gram.tokens=all)")
    assert not is_ours("ties", "TIES (delta)") and not is_ours("base", "Base model")


def test_another_form_of_the_merge_is_no_rival(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, {"ties": 0.6, "span_regression": 0.7})
    config = {"method": {"name": "span_regression", "prior": "sum"}}
    add_run(tmp_path, "sum", "span_regression", 0.8, seed=5, key="nested", specialists="mild", merge_space="delta",
            config=config, record=NEW)  # fmt: skip
    (mild,) = verdicts([standings(world) for world in worlds_of([tmp_path])], "span_regression")
    assert mild.score.value == pytest.approx(0.7)
    assert [comparison.rival.method for comparison in mild.untuned] == ["ties"] and not mild.unbeaten


def test_lost_retention_is_said(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, {"ties": 0.6})
    rates = {"drug_protein": 0.9, "drug_cell": 0.9, "drug_drug": 0.9, "molecule_class": 0.5, "cell_lineage": 0.5}
    add_run(tmp_path, "new", "span_regression", rates, seed=5, key="nested", specialists="mild", record=NEW)
    worlds = [standings(world) for world in worlds_of([tmp_path])]
    (mild,) = verdicts(worlds, "span_regression")
    assert not mild.keeps_retention and mild.retention is not None
    assert mild.retention.value == pytest.approx(-0.1) and "points less: it is lost in mild." in summary(
        worlds, "span_regression"
    )


def test_other_settings_than_the_published_are_named(tmp_path: Path) -> None:
    for number, scale in enumerate((0.4, 1.0)):
        config = {"method": {"name": "task_arithmetic", "scale": scale}}
        add_run(tmp_path, f"r{number}", "task_arithmetic", 0.6, seed=5, merge_space="delta", config=config)
    (world,) = worlds_of([tmp_path])
    titles = {contender.title for contender in world.contenders}
    assert titles == {"Task arithmetic (delta)", "Task arithmetic (delta, scale=1.0)"}


def test_a_seed_that_is_still_being_run_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, RATES["mild"])
    fill(tmp_path, "mild", 6, {"average": 0.6})
    (world,) = worlds_of([tmp_path])
    assert world.seeds == ("5",) and len(world.contenders) == 3
    fill(tmp_path, "mild", 6, {"ties": 0.6})
    (world,) = worlds_of([tmp_path])
    assert world.seeds == ("5", "6") and world.incomplete == ("Span regression (delta) (seed 6)",)


def test_those_that_answer_under_some_seeds_are_compared_over_them(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, RATES["mild"])
    fill(tmp_path, "mild", 6, {"ties": 0.6, "average": 0.6})
    fill(tmp_path, "strong", 5, {"ties": 0.6})
    (world,) = join_worlds(read_parts(tmp_path), ["5", "6"])
    assert world.name == "mild" and world.seeds == ("5", "6")
    assert {contender.method for contender in world.contenders} == {"ties", "average"}
    assert world.incomplete == ("Span regression (delta) (seed 6)",)
    assert main([str(tmp_path), "--seeds", "5", "6", "--method", "ties", "--out", str(tmp_path / "page.md")]) == 0
    assert "--seeds 5 6\n" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_benchmarks_of_a_second_sweep_join_the_first(tmp_path: Path) -> None:
    halves = [dict(list(SUITE.items())[:3]), dict(list(SUITE.items())[3:])]
    for number, suite in enumerate(halves):
        for method in ("average", "ties") if number == 0 else ("ties",):
            add_run(tmp_path / str(number), method, method, 0.7, seed=5, suite=suite, key="nested")
    (world,) = worlds_of([tmp_path / "0", tmp_path / "1"])
    standing = standings(world)
    retention = {contender.method: standing.score(contender, "retention") for contender in world.contenders}
    assert retention["average"] is None and retention["ties"] is not None
    assert [column.family for column in world.columns] == ["cross_modal", "drug_drug", "retention"]


def test_other_questions_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "mild", 5, {"average": 0.6})
    (run,) = fill(tmp_path, "mild", 5, {"ties": 0.6})
    frame = predictions(0.6, 200, "other")
    run.write_predictions("drug_cell", frame.assign(id=[f"x{number}" for number in range(200)]))
    seal(run)
    (world,) = worlds_of([tmp_path])
    with pytest.raises(InputError, match="was not asked the questions"):
        standings(world)


def test_what_a_merge_reads_is_said_where_it_is_registered() -> None:
    expected = {"ties": WEIGHTS, "es": PROBE, "span_regression": PROBE, "emr": TASK, "adamerging": TASK, "base": ""}
    assert {name: information(name) for name in expected} == expected


def test_failed_trials_do_not_lower_the_best_so_far() -> None:
    assert best_so_far([0.5, float("nan"), 0.7, 0.6]).tolist() == [0.5, 0.5, 0.7, 0.7]


def test_an_archive_says_what_its_sweeps_say(sweeps: list[Path], tmp_path: Path) -> None:
    archive, pages = tmp_path / "archive", [tmp_path / name / "settled.md" for name in ("first", "second")]
    assert main([*map(str, sweeps), "--archive", str(archive), "--out", str(pages[0])]) == 0
    assert is_archive(archive) and not any(map(is_archive, sweeps))
    assert main([str(archive), "--out", str(pages[1])]) == 0
    first, second = (page.read_text(encoding="utf-8").partition("## Commands")[0] for page in pages)
    assert first == second and "85.0 [" in first
    index, tables = (archive / INDEX).read_text(), [pd.read_parquet(path) for path in archive.glob("*.parquet")]
    assert '"q17"' not in index and tables  # no question, label or answer: a digest of the id, and who was right
    for table in tables:
        kinds = table.drop(columns="benchmark").dtypes.astype(str)
        assert kinds["question"] == "uint64" and set(kinds.drop("question")) <= {"bool", "boolean"}


def test_an_archive_grows_by_seeds_and_benchmarks(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    halves = [dict(list(SUITE.items())[:3]), dict(list(SUITE.items())[3:])]
    for number, suite in enumerate(halves):
        add_run(tmp_path / str(number), "ties", "ties", 0.7, seed=5, suite=suite, key="nested")
    add_run(tmp_path / "2", "ties", "ties", 0.8, seed=6, key="nested")
    for number in range(3):
        folders = [*([archive] if number else []), tmp_path / str(number)]
        write_archive([part for folder in folders for part in read_parts(folder)], archive)
    (archive_world,), (sweep_world,) = worlds_of([archive]), worlds_of([tmp_path / str(number) for number in range(3)])
    assert archive_world.seeds == sweep_world.seeds == ("5", "6")
    scores = [standings(world).score(world.contenders[0], "retention") for world in (archive_world, sweep_world)]
    assert scores[0] is not None and scores[0] == scores[1]


def test_what_was_run_again_is_named_first(tmp_path: Path) -> None:
    for name, rate in (("old", 0.6), ("new", 0.8)):
        fill(tmp_path / name, "mild", 5, {"ties": rate})
    write_archive(read_parts(tmp_path / "old"), tmp_path / "archive")
    (world,) = worlds_of([tmp_path / "new", tmp_path / "archive"])
    score = standings(world).score(world.contenders[0], world.main.family)
    assert score is not None and score.value == pytest.approx(0.8)


def test_an_archive_keeps_failed_trials_and_what_made_a_run(tmp_path: Path) -> None:
    (run,) = fill(tmp_path / "sweep", "mild", 5, {"ties": 0.6}, tuned=True)
    run.write_tuning(pd.DataFrame({"scale": [1.0, 2.0], "accuracy": [0.6, None]}))
    run.write_provenance({"git": {"revision": "abc"}, "config_hash": "123", "libraries": {"torch": "2"}})
    seal(run)
    write_archive(read_parts(tmp_path / "sweep"), tmp_path / "archive")
    (world,) = worlds_of([tmp_path / "archive"])
    (archived_run,) = world.contenders[0].runs["5"]
    assert archived_run.trials[0] == 0.6 and np.isnan(archived_run.trials[1]) and archived_run.seconds == 1.5
    assert archived_run.made_by == {"revision": "abc", "config_hash": "123", "libraries": {"torch": "2"}}


def test_sweeps_with_other_questions_are_not_archived_together(tmp_path: Path) -> None:
    fill(tmp_path / "a", "mild", 5, {"average": 0.6})
    (run,) = fill(tmp_path / "b", "mild", 5, {"ties": 0.6})
    run.write_predictions("drug_cell", predictions(0.6, 100, "nested"))
    seal(run)
    with pytest.raises(StoreError, match=r"mild, seed 5: TIES \(delta\) was asked other questions on drug_cell"):
        write_archive([part for name in "ab" for part in read_parts(tmp_path / name)], tmp_path / "archive")


@pytest.mark.parametrize("damage", ["index", "table", "absent"])
def test_a_damaged_archive_is_named(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "sweep", "mild", 5, {"average": 0.6})
    archive = tmp_path / "archive"
    write_archive(read_parts(tmp_path / "sweep"), archive)
    table = archive / "mild.seed5.parquet"
    if damage == "index":
        (archive / "contenders.json").write_text("{}", encoding="utf-8")
    elif damage == "table":
        table.write_bytes(table.read_bytes()[:100])
    else:
        table.unlink()
    assert main([str(archive), "--out", str(tmp_path / "settled.md")]) == 1
    assert f"error: {archive} is damaged" in capsys.readouterr().err


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (run,) = fill(tmp_path, "mild", 5, {"ties": 0.6})
    run.write_predictions("drug_cell", predictions(0.6, 100, "nested").assign(id="same"))
    seal(run)
    with pytest.raises(InputError, match="an id stands twice"):
        worlds_of([tmp_path])


def test_the_command_writes_the_page_and_its_figures(sweeps: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "settled.md"
    assert main([*map(str, sweeps), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    figures = re.findall(r"\]\((\S+\.png)\)", text)
    assert figures == ["settled_retention.png", "settled_information.png", "settled_tuning.png"]
    assert all((tmp_path / name).stat().st_size > 10_000 for name in figures)
    row = next(line for line in text.splitlines() if line.startswith("| TIES (delta) | weights | 70.0"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[5] == "1, 1" and cells[6].startswith("**85.0 [") and cells[-1] == "1.5"
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4 and all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_nothing_finished_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1 and "no run has finished" in capsys.readouterr().err


def test_no_differences_need_no_correction() -> None:
    assert correct([]) == []
