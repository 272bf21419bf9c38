"""Hostile input, by the thousand: whatever a file or a command line holds is read, or refused in words of our own.

    python -m benchmarks.reliability.fuzzing --cases 2000

Cases are drawn by Hypothesis from a seed, so that the same command tries the same ones. An input counts as refused
where an error of this program's or of Hydra's says so; any other exception is a crash.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.hostile import TARGETS, Target
from hydra.errors import HydraException
from hypothesis import HealthCheck, Phase, given, seed, settings
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from esmerge.core.errors import BenchError

REFUSALS = (BenchError, HydraException, OmegaConfBaseException)
SHOWN = 5  # crashes that the table quotes


@dataclass(frozen=True)
class Figures:
    """What became of the inputs of one target.

    Attributes:
        target: what was fuzzed.
        inputs: how many were tried.
        accepted: read as valid.
        refused: refused by an error of our own.
        crashes: distinct other exceptions, each with an input that raises it.
        crashed: inputs that raised one.
    """

    target: str
    inputs: int
    accepted: int
    refused: int
    crashes: dict[str, str]
    crashed: int


def campaign(cases: int, start: int = 0, targets: Sequence[str] = tuple(TARGETS)) -> list[Figures]:
    """Try ``cases`` inputs on each target.

    Args:
        cases: inputs of each target.
        start: seed of what is drawn.
        targets: names of ``TARGETS``.
    """
    return [fuzz(name, TARGETS[name], cases, start) for name in tqdm(targets, desc="fuzzing")]


def fuzz(name: str, target: Target, cases: int, start: int = 0) -> Figures:
    """Try ``cases`` inputs on one target; arguments as of ``campaign``."""
    counts = {"accepted": 0, "refused": 0, "crashed": 0}
    crashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")

        @seed(start)
        @settings(
            max_examples=cases, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(target.inputs)
        def case(value: Any) -> None:
            outcome, crash = outcome_of(target.read, value, Path(folder))
            counts[outcome] += 1
            if crash:
                crashes.setdefault(crash, repr(value)[:300])

        case()
    return Figures(name, sum(counts.values()), counts["accepted"], counts["refused"], crashes, counts["crashed"])


def outcome_of(read: Callable[[Any, Path], object], value: object, folder: Path) -> tuple[str, str | None]:
    """``accepted``, ``refused`` or ``crashed``, and in the last case the exception and where it arose."""
    try:
        try:
            read(value, folder)
        except REFUSALS as error:
            str(error).encode(errors="backslashreplace")  # as standard error does
            return "refused", None
    except Exception as error:
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        place = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else "nowhere"
        return "crashed", f"{type(error).__name__} in {place}"
    return "accepted", None


def table(figures: Sequence[Figures]) -> str:
    """Markdown: one row per target, then the crashes."""
    rows = [f"| {f.target} | {f.inputs} | {f.accepted} | {f.refused} | {f.crashed} |" for f in figures]
    total = map(sum, zip(*[(f.inputs, f.accepted, f.refused, f.crashed) for f in figures], strict=True))
    lines = ["| input | tried | read | refused | crashes |", "|---|---:|---:|---:|---:|", *rows]
    lines.append("| all | " + " | ".join(map(str, total)) + " |")
    quoted = [f"- {f.target}: {crash}, e.g. `{value}`" for f in figures for crash, value in f.crashes.items()]
    return "\n".join([*lines, "", *quoted[: SHOWN * len(figures)]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign and print its table; 1 if something crashed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="inputs of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    options = parser.parse_args(argv)
    figures = campaign(options.cases, options.seed, options.targets)
    print(table(figures))
    return int(any(f.crashed for f in figures))


if __name__ == "__main__":
    raise SystemExit(main())
