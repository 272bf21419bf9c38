"""Documents say what is true: links lead somewhere, commands compose, the house is drawn as it stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from tests.conftest import composed
from tests.test_architecture import FLOORS

from esmerge.cli.tasks.main import VERBS as TABLE_VERBS
from esmerge.experiment.config import read_sweep
from esmerge.merging.api import MERGES
from esmerge.specialists.families.custom.settings import open_experts_node

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for top in (".", "conf/**", "benchmarks/**", "src/**") for path in ROOT.glob(f"{top}/*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
COMMAND = re.compile(
    r"(?:python -m src\.|esmerge )(sweep|merge|extract|unpack|export[-_]coefficients|train|status|report|tasks)"
    r"((?: [^`\n]+)?)"
)
NOT_COMPOSED = ("…", "<", "--config-dir")  # a gap, or a file, that is the reader's to fill

open_experts_node()  # as the doors do before a config is composed


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Verb and words of each command line that a page holds, in blocks and between backticks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for verb, arguments in COMMAND.findall(text):
        if not any(gap in arguments for gap in NOT_COMPOSED):
            yield verb, shlex.split(arguments, comments=True)


SPOKEN = sorted({(page.relative_to(ROOT).as_posix(), verb, *words) for page in PAGES for verb, words in commands(page)})


def first_of(override: Override) -> str:
    """An override of a sweep with the first of its values; others as they are."""
    if not override.is_sweep_override():
        return str(override.input_line)
    values = override.value()
    value = values.start if isinstance(values, IntervalSweep) else next(override.sweep_string_iterator())
    return f"{override.get_key_element()}={value}"


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing


def test_the_house_is_drawn_as_it_stands() -> None:
    (drawing,) = re.findall(r"```floors\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    floors = [set(line.split("  ")[0].split(" · ")) for line in drawing.strip().splitlines()]
    assert floors[::-1] == [set(rooms) for rooms in FLOORS]


@pytest.mark.parametrize("spoken", SPOKEN, ids=" ".join)
def test_commands_are_understood(spoken: tuple[str, ...]) -> None:
    _, verb, *words = spoken
    if verb == "tasks":
        assert not words or words[0] in TABLE_VERBS or "=" in words[0] or words[0] == "VERB"
        return
    overrides = [word for word in words if word not in ("-m", "--help")]
    assert all("=" in word or word.startswith("~") for word in overrides)
    parsed = OverridesParser.create().parse_overrides(overrides)
    config = composed(
        *[first_of(override) for override in parsed if not str(override.key_or_group).startswith("hydra")],
        config=verb.replace("-", "_"),
    )
    if verb == "sweep":
        read_sweep(config)


def test_every_merge_is_on_the_page_of_merges() -> None:
    text = (ROOT / "src" / "esmerge" / "merging" / "README.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    names = {name for name in re.findall(r"`(\w+)`", rows)}
    assert names == set(MERGES.names())


@pytest.mark.parametrize("page", sorted((ROOT / "benchmarks" / "results").glob("*.md")), ids=lambda path: path.stem)
def test_every_page_of_results_has_its_command(page: Path) -> None:
    assert re.search(r"python -m (src|benchmarks)\.", page.read_text(encoding="utf-8"))


def test_every_suite_is_on_the_page_of_benchmarks() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in (ROOT / "conf" / "suite").glob("*.yaml")} <= set(re.findall(r"`(\w+)`", text))


def test_the_citation_names_the_paper_and_the_software() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    assert citation["cff-version"] == "1.2.0" and all(citation[key] for key in ("message", "title", "authors"))
    assert paper["type"] == "article" and paper["title"] and paper["authors"] and "2603.14405" in paper["url"]
