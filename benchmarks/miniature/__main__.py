"""Write tiny random checkpoints in the layouts of the paper's releases, with tables to match, and say how to use them.

    python -m benchmarks.miniature --out /tmp/miniature

Then the commands that it prints are those of the real ones, with other paths: seconds on a CPU.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.miniature.release import Miniature, save_miniature


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that is not there yet, or empty")
    return parser.parse_args(argv)


def commands(miniature: Miniature) -> list[list[str]]:
    """Unpack, teach the cell specialist, sweep: each as the words of a shell."""
    root, python = miniature.root, ["python", "-m"]
    unpacked = [
        [*python, "src.unpack", *words, f"backbone={miniature.backbone}", f"out={root / 'unpacked' / name}"]
        for name, words in miniature.unpacking().items()
    ]
    taught = [
        *(*python, "src.train", "specialists=llama31_8b", "specialist=cell"),
        *(f"specialists.backbone={miniature.backbone}", f"specialists.root={miniature.tables}"),
        *("specialists.teaching.cell.steps=4", f"out={root / 'taught'}", f"cache={root / 'cache'}"),
    ]
    sweep = [
        *(*python, "src.sweep", "-m", "experiment=paper_molecule_protein"),
        *miniature.paths(root / "unpacked", root / "taught" / "cell"),
        *(f"probe.folder={miniature.probe}", "probe.samples=4", "benchmark.limit=4", "benchmark.shots=1"),
        *(f"cache={root / 'cache'}", f"hydra.sweep.dir={root / 'sweep'}", "tracking=disabled"),
    ]
    return [*unpacked, taught, sweep]


def main(argv: Sequence[str] | None = None) -> None:
    """Write, and print the commands."""
    out = arguments(argv).out.absolute()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"--out {out} is not empty: give another folder")
    for command in commands(save_miniature(out)):
        print(shlex.join(command))


if __name__ == "__main__":
    main()
