"""What a benchmark gives away without a model: ``python -m src.tasks floors root=../shared/data suite=all``.

With ``cards=benchmarks/cards`` the rows are also written into the data cards, between two marks, so that a card's
numbers are those of a command. Training is sampled as a sweep samples it (``benchmark.train_limit``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from esmerge.baselines.api import FLOORS
from esmerge.cli.tasks.leakage_table import NOTHING, markdown_table
from esmerge.cli.tasks.options import DEFAULTS, composed_config, load_from_tables, selected_names
from esmerge.core import paths
from esmerge.core.command import command
from esmerge.core.compose import compose_choice
from esmerge.core.errors import InputError, NotApplicable
from esmerge.core.methods import ReferenceInfo
from esmerge.core.paths import user_path
from esmerge.core.prompts import Benchmark
from esmerge.core.registry import Entry
from esmerge.core.text_files import read_text
from esmerge.evaluation.metrics import metric_rows
from esmerge.storage.files import write_text

OPTIONS: dict[str, object] = {**DEFAULTS, "limit": 500, "cards": None}
RESAMPLES = 1000  # of the bootstrap, as in a sweep
BEGIN, END = "<!-- floors -->", "<!-- end of floors -->"
BLOCK = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
CARD = re.compile(r"benchmarks/cards/([\w.-]+\.md)")
SIZES = ("test questions", "training examples")  # rows above the floors
FloorCells = tuple[str, dict[str, str]]  # a benchmark's name, and its cell in each row


def report_floors(names: Sequence[str], options: DictConfig) -> None:
    """Print the floors of each benchmark and, with ``cards``, write them into the cards.

    A card is written whole: with ``cards`` every benchmark of a named benchmark's card is measured.

    Args:
        names: benchmarks; those of the suite if empty.
        options: as in ``OPTIONS``; ``limit`` counts test questions, ``cards`` is the folder of the data cards.

    Raises:
        InputError: a card that is not there or has not the two marks, or what ``load_from_tables`` raises.
    """
    selected = selected_names(names, options)
    if options.cards is None:
        print(floors_markdown([_measure_named(name, options) for name in selected]))
        return
    folder = user_path(options.cards, "cards")
    for card in dict.fromkeys(card_of(name) for name in selected):
        _check_marks(folder / card)  # before the work
    for card in dict.fromkeys(card_of(name) for name in selected):
        card_benchmarks = benchmarks_of(card)
        text = section([_measure_named(name, options) for name in card_benchmarks], _command(card_benchmarks, options))
        write_text(folder / card, into_card(folder / card, text))
        print(f"{folder / card}\n\n{text}\n", flush=True)


def measure_floors(benchmark: Benchmark, seed: int) -> dict[str, str]:
    """Floor -> ``accuracy [low, high]`` on the test split, Wilson's 95 % interval; a dash where it does not apply.
    Before them, how many examples either split has.

    Args:
        seed: of the forest's trees and of the resamples.
    """
    labels = [label.strip() for label in benchmark.labels]
    cells = dict(zip(SIZES, (str(len(benchmark.test)), str(len(benchmark.train))), strict=True))
    for floor in ranked_floors():
        try:
            predictions = floor.function(floor.settings(), benchmark, seed)
        except NotApplicable:
            cells[floor.name] = NOTHING
            continue
        rows = metric_rows(predictions, labels, seed, RESAMPLES)
        row = next(row for row in rows if row["metric"] == "accuracy")
        cells[floor.name] = f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    return cells


def ranked_floors() -> list[Entry[ReferenceInfo]]:
    """Every floor in the order of the table."""
    return sorted(map(FLOORS.get, FLOORS.names()), key=lambda floor: floor.info.rank)


def floors_markdown(measured: Sequence[FloorCells]) -> str:
    """Sizes and floors down, benchmarks across."""
    names = (*SIZES, *(floor.name for floor in ranked_floors()))
    rows = [[name.replace("_", " "), *(cells[name] for _, cells in measured)] for name in names]
    return markdown_table(["floor", *(name for name, _ in measured)], rows)


def section(measured: Sequence[FloorCells], command: str) -> str:
    """What stands in a card, marks included."""
    title = "**Floors**: accuracy on test questions with Wilson's 95 % interval"
    heading = f"{title}, learnt from training examples, made by"
    return "\n".join([BEGIN, heading, "", f"    {command}", "", floors_markdown(measured), END])


def into_card(path: Path, text: str) -> str:
    """The card with ``text`` in place of what stands between its marks; raises ``InputError`` without them."""
    _check_marks(path)
    return BLOCK.sub(lambda _: text, read_text(path))


def card_of(name: str) -> str:
    """The data card that a benchmark's config names in its first line; raises ``InputError`` if it names none."""
    path = paths.CONF / "benchmark" / f"{name}.yaml"  # a comment, which no composed config holds
    match = CARD.search(read_text(path).partition("\n")[0]) if path.is_file() else None
    if match is None:
        raise InputError(f"conf/benchmark/{name}.yaml names no card: its first line must say benchmarks/cards/NAME.md")
    return match[1]


def benchmarks_of(card: str, suites: Sequence[str] = ("all", "panels")) -> list[str]:
    """The benchmarks of some suites whose configs name this card, in the suites' order."""
    names = [name for suite in suites for name in compose_choice("suite", suite)["benchmarks"]]
    return [name for name in names if card_of(name) == card]


def _measure_named(name: str, options: DictConfig) -> FloorCells:
    print(f"measuring {name}", file=sys.stderr, flush=True)
    benchmark = load_from_tables(composed_config("benchmark", name, options), options, sampled=True)
    return name, measure_floors(benchmark, options.seed)


def _check_marks(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no card {path}: give the folder of the data cards, cards=benchmarks/cards")
    if len(BLOCK.findall(read_text(path))) != 1:
        raise InputError(f"{path} must hold {BEGIN} and {END} once, around the rows: put them where the rows belong")


def _command(names: Sequence[str], options: DictConfig) -> str:
    """How the rows are made again; options with their default are left out, and so is the suite beside names."""
    changed = [f"{key}={options[key]}" for key, value in OPTIONS.items() if options[key] != value and key != "suite"]
    return " ".join([command("tasks"), "floors", *names, *changed])
