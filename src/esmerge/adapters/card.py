"""The one model card: front matter that hubs read, a title, text, and notes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def card_text(
    title: str,
    library: str,
    tags: Sequence[str],
    base_model: str | None,
    text: str,
    notes: Mapping[str, float | int | str],
) -> str:
    """Markdown of a model card.

    Args:
        title: of the page.
        library: what loads the model, ``peft`` or ``transformers``.
        tags: for hubs.
        base_model: name or path of the backbone, if it is known.
        text: below the title.
        notes: facts worth a line each.
    """
    head = ["---", f"library_name: {library}", "tags:", *(f"- {tag}" for tag in tags)]
    head += [f"base_model: {json.dumps(base_model)}"] if base_model is not None else []
    lines = "\n".join(f"- {key}: {value}" for key, value in notes.items())
    body = "\n\n".join(part for part in (f"# {title}", text, lines) if part)
    return "\n".join([*head, "---", ""]) + "\n" + body + "\n"
