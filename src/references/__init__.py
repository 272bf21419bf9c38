"""What stands beside the merges in every table: the bare backbone, each specialist, a fine-tuned LoRA, and floors.

A reference is a function ``(settings, session, benchmark) -> predictions`` registered under its config name. It may
raise ``NotApplicable`` for a benchmark that it has no answer to; the table then shows an empty cell.
"""

from __future__ import annotations

from src.errors import NotApplicable
from src.registry import Registry

REFERENCES = Registry("reference", "src.references")

__all__ = ["REFERENCES", "NotApplicable"]
