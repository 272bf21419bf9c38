"""The console script's verbs, run in this process; ``tests/test_package.py`` runs the script as it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.standalone.tiny import command, save_backbone, train_experts

import esmerge
import esmerge.cli.merge
import esmerge.cli.tasks.main
from esmerge.cli.main import VERBS, main
from esmerge.core.paths import CONF

DOORS = Path(__file__).parents[2] / "src"
Run = Callable[..., str]


def ended_well(call: Callable[[], None]) -> None:
    """Call a main, which may leave by ``SystemExit`` where it did what it was told."""
    try:
        call()
    except SystemExit as end:
        if end.code:
            raise


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """What the script prints."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def spoken(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/esmerge", *arguments])
        ended_well(main)
        return capsys.readouterr().out

    return spoken


def test_every_door_of_the_checkout_is_a_verb() -> None:
    assert {verb.replace("-", "_") for verb in VERBS} == {path.stem for path in DOORS.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_the_verbs_with_a_line_each(arguments: tuple[str, ...], run: Run) -> None:
    output = run(*arguments)
    assert all(
        any(f"esmerge {verb}" in row and line in row for row in output.splitlines())
        for verb, (_, line) in VERBS.items()
    )


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").split() == ["esmerge", esmerge.__version__]


def test_an_unknown_verb_is_named_with_what_there_is(run: Run) -> None:
    with pytest.raises(SystemExit, match=f"unknown verb 'marge': expected one of {', '.join(VERBS)}"):
        run("marge", "out=merged")


@pytest.mark.parametrize(
    "verb", ["sweep", "merge", "extract", "unpack", "export-coefficients", "train", "status", "report"]
)
def test_hydras_help_says_what_the_command_does_and_names_it_as_it_was_used(verb: str, run: Run) -> None:
    output = run(verb, "--help")
    config = CONF / f"{verb.replace('-', '_')}.yaml"
    assert output.startswith(config.read_text().partition("\n")[0].removeprefix("# "))
    assert f"\n    esmerge {verb} " in output and "python -m src" not in output
    assert f"A word on every setting: {config}" in output and "granularity: element, joint, layer" in output


def test_help_of_the_doors_names_the_doors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["src/merge.py", "--help"])
    ended_well(esmerge.cli.merge.main)
    assert "\n    python -m src.merge backbone=" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["src/tasks.py", "--help"])
    ended_well(esmerge.cli.tasks.main.main)
    assert "python -m src.tasks VERB" in capsys.readouterr().out


def test_help_of_the_tables_names_the_script(run: Run) -> None:
    output = run("tasks", "--help")
    assert "esmerge tasks VERB" in output and "python -m" not in output


def test_hydras_own_options_reach_hydra(run: Run, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("name: ties\nkeep: 0.7\nscale: 1.0\nrank: exact\n")
    config = yaml.safe_load(run("sweep", "--config-dir", str(tmp_path), "method=mine", "seed=3", "--cfg", "job"))
    assert config["method"] == {"name": "ties", "keep": 0.7, "scale": 1.0, "rank": "exact"} and config["seed"] == 3


def test_the_model_card_holds_the_command_that_was_used(run: Run, tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    overrides = command(backbone, train_experts(backbone, tmp_path), tmp_path / "out", None, "method=average")
    run("merge", *overrides)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"\nesmerge merge backbone={backbone} " in card and "python -m src.merge" not in card
