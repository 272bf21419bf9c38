"""The configs of the real suite fit their sources, their prompts and the textbook's words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config import choose
from src.specialists.pieces import Entity
from src.tasks import SOURCES
from src.tasks.load import COMMON
from src.tasks.prompts import fill
from src.tasks.textbook.language import vocabulary

CONF = Path(__file__).parents[2] / "conf"
NAMES = list(OmegaConf.load(CONF / "suite" / "real.yaml").benchmarks)
MODALITIES = {
    "cyp": ("molecule", "protein"),
    "interactions": ("molecule", "protein"),
    "drug_response": ("molecule", "cell"),
}


def content(name: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(CONF / "benchmark" / f"{name}.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_config_fits_its_source(name: str) -> None:
    config = content(name)
    assert config["name"] == name and set(COMMON) <= set(config)
    own = {key: value for key, value in config.items() if key not in COMMON}
    chosen = choose(SOURCES, {**own, "name": config["source"]}, name)
    assert chosen.settings == chosen.entry.settings(**own)
    assert set(own) == set(asdict(chosen.settings)), "a config file shows every setting"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["textbook", "english"])
def test_a_prompt_asks_for_the_benchmarks_entities(name: str, language: str) -> None:
    config = content(name)
    entities = {modality: [Entity(modality, "X")] for modality in MODALITIES[config["source"]]}
    pieces = fill(config["prompt"][language], entities)
    assert [piece.modality for piece in pieces if isinstance(piece, Entity)] == list(entities)
    assert len(config["labels"][language]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_textbook_wording_uses_the_textbooks_words_only(name: str) -> None:
    config = content(name)
    words = (
        config["prompt"]["textbook"].replace("{molecule}", "").replace("{protein}", "").replace("{cell}", "").split()
    )
    assert set(words) | set(config["labels"]["textbook"]) <= set(vocabulary())
    assert config["prompt"]["textbook"].endswith(" ")


@pytest.mark.parametrize("name", NAMES)
def test_the_english_wording_names_both_answers_and_ends_in_the_cue(name: str) -> None:
    config = content(name)
    prompt = config["prompt"]["english"]
    assert prompt.endswith("\nFinal answer:")
    assert all(f'"{label}"' in prompt for label in config["labels"]["english"])


@pytest.mark.parametrize(
    "path", [CONF / "suite" / "real.yaml", *(CONF / "benchmark" / f"{name}.yaml" for name in NAMES)]
)
def test_a_config_opens_with_what_it_is_and_how_to_run_it(path: Path) -> None:
    what, how, *_ = path.read_text(encoding="utf-8").splitlines()
    assert what.startswith("# ") and "benchmarks/cards" in what
    assert how.startswith("# python -m src.sweep ") and path.stem in how
