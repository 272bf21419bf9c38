"""One page of everything that finished sweeps say: every world, published beside tuned settings, and the verdict.

    python -m benchmarks.settled outputs/settled outputs/settled_smollm2

Sweeps may hold several worlds (families of specialists), and one world may lie in several sweeps. Nothing is computed
that needs a model: the page is made again at any time, of sweeps that are still running, too.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.settled.figures import write_figures
from benchmarks.settled.page import page
from benchmarks.settled.standings import standings
from benchmarks.settled.verdict import verdict
from benchmarks.settled.worlds import load_worlds

from esmerge.core.errors import BenchError, InputError
from esmerge.core.paths import CONF
from esmerge.core.progress import progress
from esmerge.core.text_files import read_text
from esmerge.storage.files import write_text

RESULTS = Path(__file__).parents[1] / "results"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.settled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweeps", nargs="+", type=Path, help="sweep folders, outputs/NAME")
    parser.add_argument("--method", default="span_regression", help="the merge that the verdict is about")
    parser.add_argument("--out", type=Path, default=RESULTS / "settled.md", help="page; figures go beside it")
    parser.add_argument("--note", default="", help="a sentence under the commands: what of them has been run")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Read, write, say the verdict."""
    options = arguments(words)
    try:
        worlds = load_worlds(options.sweeps)
        if not any(world.contenders for world in worlds):
            raise InputError(f"{', '.join(map(str, options.sweeps))}: no run has finished yet")
        with progress("worlds", len(worlds)) as bar:
            scored = []
            for world in worlds:
                scored.append(standings(world))
                bar.update()
        figures = write_figures(scored, options.method, options.out.parent, options.out.stem)
        command = ["python", "-m", "benchmarks.settled", *map(str, options.sweeps)]
        text = page(scored, options.method, [*sweep_commands(), shlex.join(command)], figures, options.note)
        write_text(options.out, text)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(verdict(scored, options.method)))
    print("\n".join(str(options.out.parent / name) for name in [options.out.name, *figures.values()]))
    return 0


def sweep_commands(config: Path = CONF / "experiment" / "settled.yaml") -> list[str]:
    """The commands that make the sweeps, as the head of the experiment's config has them."""
    lines = [line.removeprefix("# ") for line in read_text(config).splitlines() if line.startswith("# ")]
    return [line for line in lines if line.startswith("python -m src.sweep")]


if __name__ == "__main__":
    sys.exit(main())
