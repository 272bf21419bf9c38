"""Model cards that a report completes with results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from tests.report.synthetic import add_run

from esmerge.adapters.card import card_text
from esmerge.core.errors import StoreError
from esmerge.report.cards import is_hub_name, write_cards
from esmerge.report.load import load_sweep


def make_card(folder: Path, base_model: str, config: dict[str, Any] | None = None) -> Path:
    run = add_run(folder, "ties", "ties", 0.7, n=50, suite={"d": ("Drug: all", "cross_modal")}, config=config)
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
    card = path.read_text()
    write_cards(load_sweep(tmp_path))
    assert path.read_text() == card
    assert card.split("---\n", 2)[2].strip() == before.split("---\n", 2)[2].strip()


@pytest.mark.parametrize("broken_by", ["", "# mine\n", "\n"])
def test_results_that_stand_in_a_card_are_replaced_whatever_stands_among_them(tmp_path: Path, broken_by: str) -> None:
    path = make_card(tmp_path, "org/backbone")
    write_cards(load_sweep(tmp_path))
    card = path.read_text()
    (line,) = (line for line in card.splitlines(keepends=True) if "results:" in line)
    head = "---\nextra: 1\n"
    path.write_text(card.replace(line, broken_by + line).replace("0.7\n", "0.1\n").replace("---\n", head, 1))
    write_cards(load_sweep(tmp_path))
    data = ModelCard.load(path).data
    assert data.to_dict()["extra"] == 1 and data.eval_results == ModelCard(card).data.eval_results


def test_a_folder_is_no_base_model_of_a_hub(tmp_path: Path) -> None:
    path = make_card(tmp_path, "/data/backbone")
    write_cards(load_sweep(tmp_path))
    data = ModelCard.load(path).data.to_dict()
    assert "base_model" not in data and "base_model_relation" not in data


@pytest.mark.parametrize(("name", "expected"), [("a/b", True), ("gpt2", True), ("/a/b", False), ("a/b/c", False)])
def test_names_of_a_hub(name: str, expected: bool) -> None:
    assert is_hub_name(name) is expected


@pytest.mark.parametrize(
    ("config", "terms"),
    [
        ({"specialists": {"kind": "textbook", "experts": ["a"]}}, "apache-2.0"),
        ({"specialists": {"experts": {"mol": "org/mol", "prot": "org/prot"}}}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_stated_where_it_is_known(config: dict[str, Any], terms: str, tmp_path: Path) -> None:
    path = make_card(tmp_path, "org/backbone", config)
    write_cards(load_sweep(tmp_path))
    assert ModelCard.load(path).data.license == terms


def test_a_merge_has_the_licence_that_its_sources_agree_on(tmp_path: Path) -> None:
    sources = {name: tmp_path / name for name in ("mol", "prot")}
    for folder in sources.values():
        folder.mkdir()
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# An expert\n")
    config = {"specialists": {"experts": {name: {"path": str(folder)} for name, folder in sources.items()}}}
    path = make_card(tmp_path / "sweep", "org/backbone", config)
    write_cards(load_sweep(tmp_path / "sweep"))
    assert ModelCard.load(path).data.license == "mit"


def test_experts_of_a_hub_are_named_as_what_was_merged(tmp_path: Path) -> None:
    config = {"specialists": {"experts": {"mol": "org/mol", "prot": {"path": "org/prot", "modality": "protein"}}}}
    path = make_card(tmp_path, "org/backbone", config)
    write_cards(load_sweep(tmp_path))
    data = ModelCard.load(path).data
    assert data.base_model == ["org/backbone", "org/mol", "org/prot"]
    assert data.to_dict()["base_model_relation"] == "merge"


def test_the_hubs_own_library_reads_and_writes_the_same_card(tmp_path: Path) -> None:
    """Its online validator needs a network; reading a card is where the library checks one offline."""
    path = make_card(tmp_path, "org/backbone")
    write_cards(load_sweep(tmp_path))
    card = ModelCard(path.read_text(), ignore_metadata_errors=False)
    assert yaml.safe_load(card.data.to_yaml()) == yaml.safe_load(path.read_text().split("---\n")[1])
    (name, results) = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "ties" and results == card.data.eval_results
    for result in results:
        assert isinstance(result.metric_value, float) and result.task_type == "text-classification"


def test_a_card_that_somebody_emptied_is_filled_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = make_card(tmp_path, "org/backbone")
    path.write_text("# My own words\n")
    write_cards(load_sweep(tmp_path))
    assert ModelCard.load(path).data.eval_results and path.read_text().endswith("# My own words\n")
    path.write_text("---\nmodel-index:\n- name: ties\n---\n# My own words\n")
    write_cards(load_sweep(tmp_path))
    assert ModelCard.load(path).data.eval_results and path.read_text().endswith("# My own words\n")
    path.write_text("---\n: [\n---\n")
    with pytest.raises(StoreError, match="README.md has a front matter that cannot be read"):
        write_cards(load_sweep(tmp_path))
