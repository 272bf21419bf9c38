"""Model cards that a report completes with results."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.report.synthetic import add_run

from esmerge.adapters.card import card_text
from esmerge.report.cards import is_hub_name, write_cards
from esmerge.report.load import load_sweep


def make_card(folder: Path, base_model: str) -> Path:
    run = add_run(folder, "ties", "ties", 0.7, n=50, suite={"d": ("Drug: all", "cross_modal")})
    path = run.path / "adapter" / "README.md"
    path.parent.mkdir()
    path.write_text(card_text("adapter", "peft", ["lora"], base_model, "TIES of a, b.", {}))
    return path


def test_results_and_lineage_are_in_the_card(tmp_path: Path) -> None:
    path = make_card(tmp_path, "org/backbone")
    assert write_cards(load_sweep(tmp_path)) == [path]
    data = ModelCard.load(path).data
    values = {result.metric_name: result.metric_value for result in data.eval_results or []}
    assert values["accuracy"] == 0.7 and set(values) == {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "mcc"}
    assert {result.dataset_name for result in data.eval_results or []} == {"Drug: all"}
    assert data.to_dict()["base_model_relation"] == "merge" and data.base_model == "org/backbone"
    assert data.tags == ["lora", "merge"] and data.library_name == "peft"


def test_a_second_report_changes_nothing_and_the_text_stays(tmp_path: Path) -> None:
    path = make_card(tmp_path, "org/backbone")
    before = path.read_text()
    write_cards(load_sweep(tmp_path))
    once = path.read_text()
    write_cards(load_sweep(tmp_path))
    assert path.read_text() == once
    assert once.split("---\n", 2)[2].strip() == before.split("---\n", 2)[2].strip()


def test_a_folder_is_no_base_model_of_a_hub(tmp_path: Path) -> None:
    path = make_card(tmp_path, "/data/backbone")
    write_cards(load_sweep(tmp_path))
    data = ModelCard.load(path).data.to_dict()
    assert "base_model" not in data and "base_model_relation" not in data


@pytest.mark.parametrize(("name", "is_one"), [("a/b", True), ("gpt2", True), ("/a/b", False), ("a/b/c", False)])
def test_names_of_a_hub(name: str, is_one: bool) -> None:
    assert is_hub_name(name) is is_one
