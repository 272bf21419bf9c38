"""What the specialists are shown, and how their embedding spaces respond.

A probe variant is a function ``(settings, specialists, seed) -> list of prompts`` registered under its config name.
"""

from __future__ import annotations

from pathlib import Path

from esmerge.core.registry import Registry


class ProbeConfig:
    """What the settings of every probe variant offer; a variant's settings derive from it.

    Attributes:
        batch_size: prompts per pass; the element score depends on it.
    """

    batch_size: int

    def source_file(self) -> Path | None:
        """The file that the prompts are read from; None where they are made from the specialists' own entities."""
        return None


PROBES: Registry[None] = Registry("probe", "esmerge.probe.variants", "esmerge.probes", ProbeConfig)
