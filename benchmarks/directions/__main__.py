"""Measure directions in embedded worlds, on validation questions, and write what each gains over the start.

    python -m benchmarks.directions --only start two_entities --seeds 0        # some, in the default world
    python -m benchmarks.directions --worlds textbook textbook_strong textbook_independent \\
        textbook_strong_independent --seeds 0 1 2 3 4 --out benchmarks/results/directions.md

Answers are kept in --folder, a file for each world and seed; what stands there is not measured again. One world and
seed takes about eight minutes on one core, half of them the three that fit whole layers; training it, where no weights
are shipped, two to six more.
"""

from __future__ import annotations

import argparse
import sys
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.directions.directions import DIRECTIONS
from benchmarks.directions.material import Material, open_material
from benchmarks.directions.page import Right, page
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from esmerge.cli.composing import explained
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.core.progress import progress
from esmerge.specialists.families.custom.settings import open_experts_node
from esmerge.storage.files import write_text
from esmerge.storage.journal import Journal

SETTINGS = ("suite=textbook", "split=validation", "references=[]", "tracking=disabled", "compute.threads=1")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.directions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--worlds", nargs="+", default=["textbook"], help="families of embedded specialists")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", nargs="+", choices=sorted(DIRECTIONS), help="these directions; all by default")
    parser.add_argument("--folder", type=Path, default=Path("outputs/directions"), help="where answers are kept")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"), help="where trained worlds are")
    parser.add_argument("--override", nargs="*", default=[], help="settings of every config, KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("outputs/directions.md"), help="the page")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is not there yet, and write the page of all that is."""
    options = arguments(argv)
    open_experts_node()
    names = list(options.only or DIRECTIONS)
    try:
        for world in options.worlds:
            for seed in options.seeds:
                measure(world, seed, names, options)
        results = {
            world: {seed: stored(options.folder, world, seed) for seed in options.seeds} for world in options.worlds
        }
        write_text(options.out, page(results, argv if argv is not None else sys.argv[1:]))
    except (BenchError, HydraException) as error:
        message = explained(error) if isinstance(error, HydraException) else error
        print(f"error: {message}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def measure(world: str, seed: int, names: Sequence[str], options: argparse.Namespace) -> None:
    """Append the answers of directions that the file of a world and seed lacks."""
    missing = [name for name in names if name not in stored(options.folder, world, seed)]
    if not missing:
        return
    journal = Journal(path(options.folder, world, seed))  # drops a line that a kill cut short
    material = open_world(world, seed, options)
    with progress(f"{world}, seed {seed}", len(missing)) as bar:
        for name in missing:
            journal.append([number_of(name)], [name, material.right(DIRECTIONS[name].make(material))])
            bar.update()


def open_world(world: str, seed: int, options: argparse.Namespace) -> Material:
    """Its specialists, trained now where they are neither shipped nor in the cache."""

    def composed(*overrides: str) -> object:
        own = (f"specialists={world}", f"seed={seed}", f"cache={options.cache}")
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("sweep", overrides=[*SETTINGS, *own, *options.override, *overrides])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_material(composed)


def stored(folder: Path, world: str, seed: int) -> dict[str, Right]:
    """Direction -> benchmark -> a digit for each question; empty where nothing was measured."""
    journal = Journal(path(folder, world, seed))
    records = [journal.stored([number_of(name)]) for name in DIRECTIONS]
    return {name: right for name, right in filter(None, records)}


def number_of(name: str) -> int:
    """What tells a direction from the others in a file, whatever directions there will be."""
    return zlib.crc32(name.encode())


def path(folder: Path, world: str, seed: int) -> Path:
    return folder / f"{world}.{seed}.jsonl"


if __name__ == "__main__":
    sys.exit(main())
