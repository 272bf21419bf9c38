"""What the specialists are shown, and how their embedding spaces respond.

A probe variant is a function ``(settings, specialists, seed) -> list of prompts`` registered under its config name.
"""

from __future__ import annotations

from esmerge.core.registry import Registry

PROBES: Registry[None] = Registry("probe", "esmerge.probe.variants", "esmerge.probes")
