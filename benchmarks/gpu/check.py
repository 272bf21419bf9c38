"""The check of the GPU path: equality, coefficients, merging, scoring, the default sweep and out of memory.

    benchmarks/gpu/check.sh                      # on a GPU, within 8 minutes
    benchmarks/gpu/check.sh --small              # the same on the CPU at tiny shapes

``OUT/gpu.json`` and ``OUT/gpu.md`` are written anew while parts run and after each, so that a run that is killed leaves
what it measured. The exit status is 1 if a part failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.gpu import background
from benchmarks.gpu.page import page
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.runner import FAILED, Outcome, Runner

from esmerge.storage.files import write_json, write_text

ROOT = Path(__file__).parents[2]
BUDGET = 450.0  # seconds: with the start of a machine and the copying this fits 8 minutes


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny shapes")
    parser.add_argument("--device", help="cuda or cpu; by default cuda, and with --small cpu")
    parser.add_argument("--only", help=f"parts, separated by commas, of {', '.join(names)}")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of all parts together")
    options = parser.parse_args(argv)
    options.device = options.device or ("cpu" if options.small else "cuda")
    only = options.only.split(",") if options.only else names
    if unknown := sorted(set(only) - set(names)):
        parser.error(f"--only {','.join(unknown)}: expected some of {', '.join(names)}")
    options.parts = [part for part in PARTS if part.name in only]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts; 1 if one failed."""
    options = arguments(argv)
    out = options.out.resolve()
    outcomes = check(options.parts, out, options.device, options.small, options.budget)
    print((out / "gpu.md").read_text(encoding="utf-8"))
    return int(any(outcome.state == FAILED for outcome in outcomes))


def check(parts: Sequence[Part], out: Path, device: str, small: bool, budget: float) -> list[Outcome]:
    """Run parts and leave ``gpu.json``, ``gpu.md`` and ``gpu.log`` in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    environment = facts(device, small)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        work = Path(folder)
        runner = Runner(work, device, small, budget, lambda outcomes: write(out, outcomes, environment))
        beside = background.begin(work, small) if any(part.name == "sweep" for part in parts) else None
        try:
            outcomes = runner.run(parts)
        finally:
            if beside is not None:
                background.end(beside)
            with (out / "gpu.log").open("w", encoding="utf-8") as log:
                for path in sorted(work.glob("*.log")):
                    log.write(f"==> {path.name} <==\n{path.read_text(encoding='utf-8', errors='replace')}\n")
    return outcomes


def write(out: Path, outcomes: Sequence[Outcome], facts: Mapping[str, object]) -> None:
    """The records and the page, anew."""
    write_json(out / "gpu.json", {"facts": facts, "parts": [asdict(outcome) for outcome in outcomes]})
    write_text(out / "gpu.md", page(facts, outcomes))


def facts(device: str, small: bool) -> dict[str, object]:
    """What is measured on, with which versions; torch is not loaded for it."""
    return {
        "device": _device(device),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "shapes": "tiny (--small)" if small else "Llama-3.1-8B, random weights",
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "revision": _revision(),
    }


def _device(device: str) -> str:
    """Name, memory and driver of the GPU, as its driver's own tool tells them; else the processor."""
    if not device.startswith("cuda") or shutil.which("nvidia-smi") is None:
        return f"{device}, {platform.processor() or platform.machine()}"
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or device


def _revision() -> str:
    """Of the source, if git is there to say."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
