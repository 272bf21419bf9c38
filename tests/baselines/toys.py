"""Small benchmarks whose rule is known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import esmerge
from esmerge.baselines.api import FLOORS
from esmerge.core.prompts import Benchmark, Entity, Example

ALCOHOLS, AMINES = (["C" * n + tail for n in range(2, 22)] for tail in ("O", "N"))
FAMILIES = ("MKVLLAAMKVLLAA", "GHWPPYGHWPPY")
LABELS = ("no", "yes", "perhaps")


def example(name: str, entities: list[Entity], answer: int, labels: int = 2) -> Example:
    return Example(name, tuple(entities), tuple(f" {label}" for label in LABELS[:labels]), answer)


def benchmark(train: list[Example], test: list[Example]) -> Benchmark:
    labels = tuple(label.strip() for label in train[0].labels) if train else LABELS[:2]
    return Benchmark("toy", "Toy", "cross_modal", labels, tuple(train), (), tuple(test), "0")


def by_drug(partner_tells: bool = False) -> Benchmark:
    """Amines bind and alcohols do not, whatever the protein; or the protein's family decides, whatever the drug."""
    rows = []
    for index, smiles in enumerate(ALCOHOLS + AMINES):
        for family, sequence in enumerate(FAMILIES):
            answer = family if partner_tells else int(smiles.endswith("N"))
            entities = [Entity("molecule", smiles), Entity("protein", sequence)]
            rows.append(example(f"{index}-{family}", entities, answer))
    train = [row for index, row in enumerate(rows) if index % 10 < 6]
    return benchmark(train, [row for index, row in enumerate(rows) if index % 10 >= 6])


def predict(floor: str, benchmark: Benchmark, seed: int = 0, **settings: Any) -> pd.DataFrame:
    """What a registered floor predicts with these settings."""
    entry = FLOORS.get(floor)
    return entry.function(entry.settings(**settings), benchmark, seed)


def run_python(code: str, *folders: Path) -> str:
    """What a fresh process prints that has this package, and these folders, on its path."""
    path = os.pathsep.join(map(str, [Path(esmerge.__file__).parents[1], *folders]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def accuracy(frame: pd.DataFrame) -> float:
    return float((frame["label"] == frame["prediction"]).mean())


def by_pairing(copies: int = 10) -> Benchmark:
    """Amines bind one protein family and alcohols the other: neither entity says anything alone."""
    rows = []
    for index, smiles in enumerate(ALCOHOLS + AMINES):
        for copy in range(copies):
            family = (index + copy) % 2
            answer = int(smiles.endswith("N")) ^ family
            tail = "ACDEFGHIKLMNPQRSTVWY"[copy % 20]
            entities = [Entity("molecule", smiles), Entity("protein", FAMILIES[family] + tail)]
            rows.append(example(f"{index}-{copy}", entities, answer))
    held_out = {f"{index}-{copy}" for index in range(len(ALCOHOLS) * 2) for copy in range(copies) if index % 5 == 4}
    return benchmark([row for row in rows if row.id not in held_out], [row for row in rows if row.id in held_out])
