"""What the specialists are shown, and how their embedding spaces respond.

A probe variant is a function ``(settings, specialists, seed) -> list of prompts`` registered under its config name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from esmerge.core.registry import Registry


class ProbeConfig:
    """What the settings of every probe variant offer; a variant's settings derive from it.

    Attributes:
        batch_size: prompts per pass; the element score depends on it.
        own_entities: whether prompts are made of the specialists' own entities, not read from files.
    """

    batch_size: int
    own_entities: ClassVar[bool] = True

    def source_files(self) -> Mapping[str, Path]:
        """The files that the prompts are read from, by what each is; none where they are made, or none is named."""
        return {}


PROBES: Registry[None] = Registry("probe", "esmerge.probe.variants", "esmerge.probes", ProbeConfig)
