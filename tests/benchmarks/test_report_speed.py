"""The measurement of reports: what is invented reads as a sweep, and what is run is the front door."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.speed import report as module
from benchmarks.speed.invented import answers, invented_rows, write_sweep
from benchmarks.speed.report import arguments, main

from esmerge.core.methods import MethodKind
from esmerge.report.load import load_sweep
from esmerge.report.statistics import columns
from esmerge.tracking.questions import read_questions


def test_an_invented_sweep_reads_as_a_sweep(tmp_path: Path) -> None:
    rows = [row for row in invented_rows(40) if row.method in ("base", "average")] + invented_rows(40)[-1:]
    assert write_sweep(tmp_path, rows, seeds=2, benchmarks=2, questions=10) == 2 * len(rows)
    sweep = load_sweep(tmp_path)
    assert [len(row.runs) for row in sweep.rows] == [2] * len(rows) and not sweep.failures
    assert [column.name for column in columns(sweep)] == ["cyp1a2_inhibition", "cyp2c9_inhibition", "cross_modal_mean"]
    es = sweep.of_kind(MethodKind.ES)[0]
    assert sweep.run(es.key).coefficients.exists() and sweep.run(es.key).read_costs()
    facts = sweep.run(es.key).read_benchmarks()["cyp1a2_inhibition"]
    assert len(read_questions(tmp_path, str(facts["questions"]))) == 10


def test_rows_are_as_many_as_wanted_and_all_different() -> None:
    for count in (5, 40, 200):
        rows = invented_rows(count)
        keys = {(row.method, row.granularity, row.merge_space, row.temperature, row.scale) for row in rows}
        assert len(rows) == len(keys) == count


def test_the_more_skilled_answer_more_rightly() -> None:
    frames = [answers(skill, ("a", "b"), 2000, 0, 0, 1) for skill in (0.0, 1.0)]
    shares = [(frame["label"] == frame["prediction"]).mean() for frame in frames]
    assert 0.45 < shares[0] < 0.55 < shares[1] < 0.9


@pytest.mark.parametrize("argv", [["--runs", "7"], ["--benchmarks", "0"], ["--benchmarks", "99"]])
def test_what_cannot_be_invented_is_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(argv)


def test_the_row_is_what_the_report_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program that is run is replaced by one that takes a known amount of memory and writes a page."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    body = f"held = b'x' * 200_000_000; open(r'{folder}/report.html', 'w').write('x' * 2_000_000)"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec {module.sys.executable} -c "{body}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(module, "PROGRAM", [str(program)])
    assert main(["--folder", str(folder), "--out", str(tmp_path / "speed.csv")]) == 0
    text, row = capsys.readouterr().out, (tmp_path / "speed.csv").read_text().splitlines()
    values = dict(zip(row[0].split(","), row[1].split(","), strict=True))
    assert 200 < float(values["peak_mb"]) < 400 and values["page_mb"] == "2.0"
    assert "report of 200 runs on 23 benchmarks" in text and "aim: at most 20" in text
    program.write_text("#!/bin/sh\necho broken; exit 3\n")
    with pytest.raises(RuntimeError, match="broken"):
        main(["--folder", str(folder)])
