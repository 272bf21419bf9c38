"""One page of everything that finished sweeps say: every world, published beside tuned settings, and the verdict.

    python -m benchmarks.settled outputs/settled outputs/settled_smollm2
    python -m benchmarks.settled benchmarks/results/settled outputs/more --archive benchmarks/results/settled

Sweeps may hold several worlds (families of specialists), and one world may lie in several sweeps. Nothing is computed
that needs a model: the page is made again at any time, of sweeps that are still running, too. --archive keeps who was
right on which question; such a folder is read as a sweep is, so that a page grows by seeds and methods. A run that
stands in several folders counts as the first of them has it: name what was run again before the archive.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.settled.archive import is_archive, read_archive, write_archive
from benchmarks.settled.figures import write_figures
from benchmarks.settled.page import page
from benchmarks.settled.standings import standings
from benchmarks.settled.summary import summary
from benchmarks.settled.worlds import Part, join_worlds, read_sweep_parts

from esmerge.core.errors import BenchError, InputError
from esmerge.core.paths import CONF
from esmerge.core.progress import progress
from esmerge.core.text_files import read_text
from esmerge.storage.files import write_text

RESULTS = Path(__file__).parents[1] / "results"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.settled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="sweep folders, outputs/NAME, and archives")
    parser.add_argument("--method", default="span_regression", help="the merge that the verdict is about")
    parser.add_argument("--out", type=Path, default=RESULTS / "settled.md", help="page; figures go beside it")
    parser.add_argument("--archive", type=Path, help="folder to keep what the page needs of all of them")
    parser.add_argument("--seeds", nargs="+", default=[], help="compare those alone that answer under all of these")
    parser.add_argument("--note", default="", help="a sentence under the commands: what of them has been run")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Read, write, say the verdict."""
    options = arguments(argv)
    try:
        parts = [part for folder in options.folders for part in read_parts(folder)]
        worlds = join_worlds(parts, options.seeds)
        if not any(world.contenders for world in worlds):
            raise InputError(f"{', '.join(map(str, options.folders))}: no run has finished yet")
        with progress("worlds", len(worlds)) as bar:
            scored = []
            for world in worlds:
                scored.append(standings(world))
                bar.update()
        figures = write_figures(scored, options.method, options.out.parent, options.out.stem)
        command = ["python", "-m", "benchmarks.settled", *map(str, options.folders)]
        command += ["--seeds", *options.seeds] if options.seeds else []
        text = page(scored, options.method, [*sweep_commands(), shlex.join(command)], figures, options.note)
        write_text(options.out, text)
        if options.archive:
            write_archive(parts, options.archive)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(scored, options.method))
    print("\n".join(str(options.out.parent / name) for name in [options.out.name, *figures.values()]))
    return 0


def read_parts(folder: Path) -> list[Part]:
    """What a sweep or an archive says of each of its worlds."""
    return read_archive(folder) if is_archive(folder) else read_sweep_parts(folder)


def sweep_commands(config: Path = CONF / "experiment" / "settled.yaml") -> list[str]:
    """The commands that make the sweeps, as the head of the experiment's config has them."""
    lines = [line.removeprefix("# ") for line in read_text(config).splitlines() if line.startswith("# ")]
    return [line for line in lines if line.startswith("python -m src.sweep")]


if __name__ == "__main__":
    sys.exit(main())
