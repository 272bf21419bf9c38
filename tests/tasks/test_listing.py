"""``python -m src.tasks``: the suite's counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.errors import ConfigError, InputError
from src.tasks import __main__ as listing
from src.tasks.__main__ import main


def test_every_benchmark_of_the_suite_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path(__file__).parents[2] / "conf" / "benchmark" / "human.yaml"
    for folder in ("suite", "benchmark"):
        (tmp_path / folder).mkdir()
    (tmp_path / "suite" / "own.yaml").write_text("name: own\nbenchmarks: [human]\n")
    (tmp_path / "benchmark" / "human.yaml").write_text(real.read_text())
    (tmp_path / "dti_human").mkdir()
    pairs = "".join(f"{'C' * n},MKV,{n % 2},{('train', 'val', 'test')[n % 3]}\n" for n in range(1, 31))
    table = tmp_path / "dti_human" / "human_random.csv"
    table.write_text(f"SMILES,sequence,label,split\n{pairs}C1CC,MKV,1,train\n")
    monkeypatch.setattr(listing, "CONF", tmp_path)
    main([f"root={tmp_path}", "suite=own"])
    header, row, reject = capsys.readouterr().out.strip().splitlines()
    assert header.split()[:5] == ["benchmark", "train", "validation", "test", "rejects"]
    assert row.split()[:8] == ["human", "10", "(0.500)", "10", "(0.500)", "10", "(0.500)", "1"]
    assert "molecule 0.000, protein 1.000" in row
    assert reject.startswith("human  human_random.csv:32: SMILES 'C1CC'")


def test_an_unknown_option_and_a_missing_root_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown option rot: expected root"):
        main(["rot=x"])
    with pytest.raises(ConfigError, match="benchmark.root is not set"):
        main([])
    with pytest.raises(InputError, match="cyp1a2_inhibitor.csv"):
        main([f"root={tmp_path}"])
