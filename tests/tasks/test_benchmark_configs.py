"""The configs of benchmarks that are read from tables fit their sources, their prompts and the textbook's words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Entity
from esmerge.core.schema import choose
from esmerge.data.templates import PLACEHOLDER, fill
from esmerge.tasks.api import SOURCES
from esmerge.tasks.assemble import ANSWERS, quoted_list
from esmerge.tasks.load import COMMON
from esmerge.tasks.sources.drug_pairs import type_labels
from esmerge.world.language import vocabulary

CONF = Path(__file__).parents[2] / "conf"
SUITES = ["real", "interactions", "molecule_protein", "molecule_cell", "drug_drug", "retention", "all", "panels"]
NAMES = [name for suite in ("all", "panels") for name in compose_choice("suite", suite)["benchmarks"]]
CARDS = Path(__file__).parents[2] / "benchmarks" / "cards"
MODALITIES = {
    "cyp": ("molecule", "protein"),
    "cyp_panel": ("molecule", "protein"),
    "target_panel": ("molecule", "protein"),
    "ddi_panel": ("molecule", "molecule"),
    "response_panel": ("molecule", "cell"),
    "interactions": ("molecule", "protein"),
    "drug_response": ("molecule", "cell"),
    "synergy": ("molecule", "molecule", "cell"),
    "ddi": ("molecule", "molecule"),
    "ddi_type": ("molecule", "molecule"),
}


def modalities(config: dict) -> tuple[str, ...]:
    return (config["modality"],) if config["source"] == "annotation" else MODALITIES[config["source"]]


def labels(config: dict, language: str) -> list[str]:
    if config["source"] != "ddi_type":
        return config["labels"][language]
    return type_labels(["49", "47", "73", "75", "60", "70", "20", "16"][: config["types"]], language)


def content(name: str) -> dict:
    return compose_choice("benchmark", name)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_fits_its_source(name: str) -> None:
    config = content(name)
    assert config["name"] == name and set(COMMON) <= set(config)
    settings = {key: value for key, value in config.items() if key not in COMMON}
    selection = choose(SOURCES, {**settings, "name": config["source"]}, name)
    assert selection.settings == selection.entry.settings(**settings)
    assert set(settings) == set(asdict(selection.settings)), "a composed config shows every setting"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["textbook", "english"])
def test_a_prompt_asks_for_the_benchmarks_entities(name: str, language: str) -> None:
    config = content(name)
    form = modalities(config)
    entities = {modality: [Entity(modality, "X")] * form.count(modality) for modality in form}
    segments = fill(config["prompt"][language].replace(ANSWERS, ""), entities)
    assert tuple(segment.modality for segment in segments if isinstance(segment, Entity)) == form
    assert len(set(labels(config, language))) == len(labels(config, "english")) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_the_textbook_wording_uses_the_textbooks_words_only(name: str) -> None:
    config = content(name)
    words = PLACEHOLDER.sub("", config["prompt"]["textbook"]).split()
    assert set(words) | set(labels(config, "textbook")) <= set(vocabulary())
    assert config["prompt"]["textbook"].endswith(" ")


@pytest.mark.parametrize("name", compose_choice("suite", "panels")["benchmarks"])
def test_the_brief_wording_of_a_panel_is_a_line_for_each_entity(name: str) -> None:
    config = content(name)
    form = modalities(config)
    segments = fill(
        config["prompt"]["brief"], {modality: [Entity(modality, "X")] * form.count(modality) for modality in form}
    )
    assert [isinstance(segment, Entity) for segment in segments] == [False, True] * 2
    assert "\n" in str(segments[2]) and not str(segments[2]).endswith("\n")


@pytest.mark.parametrize("name", NAMES)
def test_the_english_wording_names_all_answers_and_ends_in_the_cue(name: str) -> None:
    config = content(name)
    prompt = config["prompt"]["english"]
    assert prompt.endswith("\nFinal answer:")
    text = prompt.replace(ANSWERS, quoted_list(labels(config, "english")))
    assert all(f'"{label}"' in text for label in labels(config, "english"))


@pytest.mark.parametrize("path", [CONF / "suite" / f"{name}.yaml" for name in SUITES], ids=SUITES)
def test_a_suite_opens_with_what_it_is_and_how_to_run_it(path: Path) -> None:
    summary, command, *_ = path.read_text(encoding="utf-8").splitlines()
    assert summary.startswith("# ") and "benchmarks/cards" in summary
    assert command.startswith("# python -m src.sweep ") and f"suite={path.stem}" in command


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_names_a_card_that_names_it(name: str) -> None:
    summary, command, *_ = (CONF / "benchmark" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    card = summary.split("benchmarks/cards/")[1]
    assert summary.startswith("# ") and name in (CARDS / card).read_text(encoding="utf-8")
    assert command.startswith("# python -m src.sweep ") and f"benchmark={name}" in command


def test_the_suites_cover_one_another() -> None:
    suites = {name: compose_choice("suite", name)["benchmarks"] for name in SUITES}
    parts = ("molecule_protein", "molecule_cell", "drug_drug")
    assert set(suites["interactions"]) == {name for part in parts for name in suites[part]}
    assert set(suites["all"]) == {*suites["interactions"], *suites["retention"]}
    assert set(suites["real"]) < set(suites["interactions"])
    assert all(len(set(names)) == len(names) for names in suites.values())


FRAME = re.compile(r"(prompt|labels|columns):|english: \|-|[\w ()-]+: \{\w+\}|Final answer:|(family|perceive): \w+")


def settings_lines(path: Path) -> list[str]:
    """The lines of a config that say something: without comments, blank lines, the list of bases, and the frame.

    The frame is what opens a block (``prompt:``, ``labels:``, ``columns:``, ``english: |-``), and in an English prompt
    the lines that only name an entity (``Molecule (SMILES): {molecule}``) and the cue: all prompts show them alike. So
    do a panel's text forms say which side is perceived.
    """
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        line for line in lines if line and not re.match(r"defaults:|- \w+@_here_", line) and not FRAME.fullmatch(line)
    ]


def test_benchmarks_do_not_copy_one_another() -> None:
    files = {path: settings_lines(path) for path in (CONF / "benchmark").rglob("*.yaml")}
    holders = Counter(line for lines in files.values() for line in set(lines))
    copies = [line for lines in files.values() for line in lines if holders[line] > 1]
    share = len(copies) / sum(map(len, files.values()))
    assert share < 0.15, f"{share:.0%} of the lines stand in another file too: {Counter(copies).most_common(9)}"


@pytest.mark.parametrize("path", sorted((CONF / "benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_benchmark_stands_on_a_base(path: Path) -> None:
    assert "@_here_" in path.read_text(encoding="utf-8").split("\nname:")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_what_the_question_holds(name: str) -> None:
    config = content(name)
    form = modalities(config)
    expected = "cross_modal" if len(set(form)) > 1 else "drug_drug" if len(form) > 1 else "retention"
    assert config["family"] == expected


@pytest.mark.parametrize(("name", "word"), [("bindingdb", "subset"), ("biosnap", "partial"), ("drugcomb", "only")])
def test_what_is_not_the_whole_set_says_so(name: str, word: str) -> None:
    assert word in content(name)["title"]


@pytest.mark.parametrize("enzyme", ["1A2", "2C9", "2C19", "2D6", "3A4"])
def test_only_the_papers_substrate_sets_are_not_extra(enzyme: str) -> None:
    title = content(f"cyp{enzyme.lower()}_substrate")["title"]
    assert ("extra" in title) == (enzyme in ("1A2", "2C19"))


@pytest.mark.parametrize(
    "name", ["biosnap", "cyp1a2_inhibition", "cyp_panel", "target_panel", "ddi", "gdsc2", "drugcomb", "response_panel"]
)
def test_a_word_for_a_column_that_nothing_reads_is_refused(name: str) -> None:
    config = content(name)
    settings = {key: value for key, value in config.items() if key not in COMMON} | {"name": config["source"]}
    with pytest.raises(ConfigError, match=r"benchmark.columns.smile='S' is read by nothing: expected .*molecule"):
        choose(SOURCES, {**settings, "columns": {**settings["columns"], "smile": "S"}}, "benchmark x")


@pytest.mark.parametrize(
    ("name", "word"), [("biosnap", "protein"), ("cyp1a2_inhibition", "label"), ("target_panel", "molecule")]
)
def test_a_column_that_is_needed_must_be_named(name: str, word: str) -> None:
    config = content(name)
    settings = {key: value for key, value in config.items() if key not in COMMON} | {"name": config["source"]}
    columns = {**settings["columns"], word: ""}
    with pytest.raises(ConfigError, match=f"benchmark.columns has no {word}: expected "):
        choose(SOURCES, {**settings, "columns": columns}, "benchmark x")
