"""The estimate of what the paper's experiments take: runs as planned, questions as asked, operations as counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from benchmarks import estimate
from benchmarks.gpu.models import LLAMA_8B

from esmerge.core.prompts import Entity


def weights_of_layers() -> float:
    shape = LLAMA_8B
    narrow = shape.hidden * shape.key_value_heads // shape.heads
    attention = 2 * shape.hidden * (shape.hidden + narrow)
    return shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def test_operations_are_those_of_weights_and_attention() -> None:
    for length in (100, 3000):
        attention = 4 * LLAMA_8B.layers * LLAMA_8B.hidden * length**2
        assert estimate.of_prompt()(length) == pytest.approx(2 * weights_of_layers() * length + attention, rel=1e-3)


def test_a_layer_keeps_what_its_adapters_and_its_gate_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = replace(LLAMA_8B, hidden=64, heads=4, key_value_heads=2, intermediate=96)
    monkeypatch.setattr(estimate, "LLAMA_8B", shape)
    least = 2 * (3 * shape.hidden + 3 * shape.intermediate)  # of two norms and o_proj; gate, up and their product
    assert least < estimate.kept_by_a_layer.__wrapped__(64, 128) < 20 * least


def test_speeds_are_read_from_the_page_of_the_gpu() -> None:
    assert estimate.measured("label log-likelihood") > 100 > estimate.measured("generation, one at a time, 16 tokens")
    assert 1e14 < estimate.per_second() < 1e15 and 0.01 < estimate.seconds_a_token() < 0.1


def test_positions_are_soft_tokens_and_words() -> None:
    positions = estimate.positions(None)
    assert positions(Entity("molecule", "CCO" * 50)) == 8 and positions(Entity("protein", "MKT")) == 5
    assert positions(Entity("cell", "ALB TTR APOA1")) == positions("ALB TTR APOA1") == 4


def test_a_row_counts_what_is_planned_and_names_tables_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cyp"
    folder.mkdir()
    rows = pd.DataFrame(
        {"SMILES": ["C" * (2 + row) + "O" for row in range(60)], "label": [row % 2 for row in range(60)]}
    )
    rows.to_csv(folder / "cyp1a2_inhibitor.csv", index=False)
    with pytest.warns(UserWarning, match="few"):
        estimate.main(["--root", str(tmp_path), "paper_cyp"])
    header, _, row, *remarks = capsys.readouterr().out.strip().splitlines()
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row)), strict=True))
    assert int(cells["runs"]) == 9, "base, three specialists, TIES, EMR, PCB, ES-Merging, average"
    assert 0 < int(cells["questions"]) < 60 and float(cells["GPU GB"]) > 16
    assert len(remarks) == 9 and all("is left out" in line for line in remarks)


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--root", ".", "paper_cpy"], "paper_cpy: expected some of"), (["--root", "/nope"], "--root /nope: ")],
)
def test_mistaken_words_are_refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        estimate.arguments(argv)
    assert message in capsys.readouterr().err
