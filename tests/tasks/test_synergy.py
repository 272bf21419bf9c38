from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Example
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.synergy import SynergySettings, synergy

PROMPT = {"english": "{molecule_1} with {molecule_2} on {cell}. Final answer:"}
DRUGS = {f"d{number}": "C" * number + "O" for number in range(1, 13)}
LINES = [f"Line-{number}" for number in range(8)]
SETTINGS = SynergySettings(
    prompt=PROMPT,
    labels={"english": ["Antagonistic", "Synergistic"]},
    pairs="pairs.csv",
    drugs="drugs.csv",
    cells="genes.csv",
    lines="lines.csv",
    genes=2,
    train_limit=None,
    validation_limit=None,
)


def tables(write: Callable, extra: str = "") -> None:
    """Every pair on every line, the sign alternating; names of lines differ between the tables."""
    names = list(DRUGS)
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    rows = [
        f"{a},{b},{line},{20 * (-1) ** (p + q)}\n" for p, (a, b) in enumerate(pairs) for q, line in enumerate(LINES)
    ]
    write("pairs.csv", "cid_a,cid_b,cell_line,loewe\n" + "".join(rows) + extra)
    write("drugs.csv", "pubchemid,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in DRUGS.items()))
    write("lines.csv", "cell_line,gdsc_cells_key\n" + "".join(f"{line},{key(line)}\n" for line in LINES))
    gene_rows = "".join(f"{key(line)},TP53 EGFR {key(line)}\n" for line in LINES)
    write("genes.csv", "cell_line,top200_by_expression\n" + gene_rows)


def key(line: str) -> str:
    return line.replace("-", "").upper()


def only(write: Callable, rows: str) -> None:
    """The same drugs and lines, but these experiments alone."""
    tables(write)
    write("pairs.csv", "cid_a,cid_b,cell_line,loewe\n" + rows)


def examples(benchmark: Benchmark) -> list[Example]:
    return [*benchmark.train, *benchmark.validation, *benchmark.test]


def reasons(benchmark: Benchmark) -> dict[str, str]:
    return {reject.row: reject.reason for reject in benchmark.rejects}


def test_a_question_holds_both_molecules_and_the_lines_genes(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    tables(write)
    benchmark = synergy(SETTINGS, ask())
    assert len(examples(benchmark)) == 66 * 8 and not benchmark.rejects
    example = benchmark.test[0]
    first, second, cell = example.entities()
    assert (first.modality, second.modality, cell.modality) == ("molecule", "molecule", "cell")
    assert first.value < second.value and cell.value == "TP53 EGFR" and example.group in LINES
    assert example.prompt == (first, " with ", second, " on ", cell, ". Final answer:")
    assert benchmark.labels == ("Antagonistic", "Synergistic")


def test_the_threshold_holds_on_both_sides_and_the_middle_is_counted(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    scores = [10.0, 10.1, -10.0, -10.1, 0.0, 30.0]
    only(write, "".join(f"d{2 * n + 1},d{2 * n + 2},Line-0,{score}\n" for n, score in enumerate(scores)))
    benchmark = synergy(SETTINGS, ask())
    assert {e.id: e.answer for e in examples(benchmark)} == {"pairs.csv:3": 1, "pairs.csv:5": 0, "pairs.csv:7": 1}
    assert set(reasons(benchmark)) == {"pairs.csv:2", "pairs.csv:4", "pairs.csv:6"}
    assert set(reasons(benchmark).values()) == {"loewe within 10 of 0: neither synergistic nor antagonistic"}
    assert len(examples(synergy(replace(SETTINGS, threshold=0.0), ask()))) == 5  # 0 itself is neither


def test_replicates_are_averaged_whatever_the_drugs_order(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rows = ["d1,d2,Line-0,40\n", "d2,d1,Line-0,-10\n", "d1,d2,Line-0,-40\n", "d1,d2,Line-1,40\n"]
    rows += [f"d{n},d{n + 1},Line-0,-40\n" for n in range(3, 12)]
    others = {f"pairs.csv:{line}": 0 for line in range(6, 15)}
    only(write, "".join(rows))
    benchmark = synergy(replace(SETTINGS, threshold=5.0), ask())  # mean -3.3, median -10
    assert {e.id for e in examples(benchmark)} == {"pairs.csv:5", *others}
    assert "within 5 of 0" in reasons(benchmark)["pairs.csv:2"]
    assert "a replicate: the mean" in reasons(benchmark)["pairs.csv:3"] == reasons(benchmark)["pairs.csv:4"]
    median = synergy(replace(SETTINGS, threshold=5.0, replicates="median"), ask())
    assert {e.id: e.answer for e in examples(median)} == {"pairs.csv:2": 0, "pairs.csv:5": 1, **others}


def test_bad_rows_are_named(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write, extra="d1,d1,Line-0,20\nd1,dx,Line-0,20\nd1,d2,Line-x,20\nd1,d2,Line-1,high\n")
    rejects = reasons(synergy(SETTINGS, ask()))
    assert list(rejects.values()) == [
        "loewe 'high' is not a finite number",
        "cid_b 'dx' has no valid row in drugs.csv",
        "cell_line 'Line-x' has no valid row in lines.csv",
        "both drugs are one molecule",
    ]


def test_lines_need_no_second_table_where_names_agree(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    write("genes.csv", "cell_line,top200_by_expression\n" + "".join(f"{line},TP53 EGFR\n" for line in LINES))
    assert len(examples(synergy(replace(SETTINGS, lines=None), ask()))) == 66 * 8
    with pytest.raises(InputError, match="has no valid row in genes.csv"):
        synergy(SETTINGS, ask())


def test_cold_splits_hold_out_whole_drugs_and_lines(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    tables(write)
    cold = synergy(replace(SETTINGS, split="cold_drug", validation_share=0.3, test_share=0.4), ask(seed=3))
    molecules = [{m.value for e in side for m in e.entities("molecule")} for side in (cold.train, cold.test)]
    assert molecules[0] and molecules[1] and not molecules[0] & molecules[1]
    assert len(examples(cold)) + len(cold.rejects) == 66 * 8 and cold.rejects
    lines = synergy(replace(SETTINGS, split="cold_cell", validation_share=0.3, test_share=0.3), ask(seed=1))
    assert not {e.group for e in lines.train} & {e.group for e in lines.test}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": -1.0}, "benchmark.threshold=-1"),
        ({"replicates": "last"}, "benchmark.replicates='last' must be one of mean, median"),
        ({"genes": 0}, "benchmark.genes=0"),
        ({"split": "cold_target"}, "benchmark.split='cold_target'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **changes)
