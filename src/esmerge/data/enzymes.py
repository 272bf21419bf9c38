"""Sequences of the human enzymes that tables name: ``src/esmerge/data/cyp_sequences.csv``."""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path

from esmerge.core.errors import ConfigError
from esmerge.core.text_files import read_text

SEQUENCES = Path(__file__).with_name("cyp_sequences.csv")


@lru_cache(maxsize=1)
def enzyme_sequences() -> dict[str, str]:
    """Enzyme -> its amino acids."""
    rows = csv.DictReader(io.StringIO(read_text(SEQUENCES)))
    return {row["enzyme"]: row["sequence"] for row in rows}


def enzyme_sequence(enzyme: str) -> str:
    """The human enzyme's amino acids; raises ``ConfigError`` naming the enzymes there are."""
    if enzyme not in enzyme_sequences():
        available = ", ".join(enzyme_sequences())
        raise ConfigError(f"benchmark.enzyme={enzyme!r} has no sequence in {SEQUENCES.name}: use one of {available}")
    return enzyme_sequences()[enzyme]
