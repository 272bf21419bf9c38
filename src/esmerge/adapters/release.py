"""A released specialist taken apart: every tensor is a LoRA factor, a weight of the backbone, or of a named part.

A release is one model around a language model: encoder, projector, language model with LoRA. Its tensors stand in one
file or two, the second of which (an adapter beside a base checkpoint) replaces what the first holds of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torch import Tensor

from esmerge.adapters.lora import PREFIX, factor_name
from esmerge.adapters.peft_keys import FACTOR
from esmerge.core.errors import AdapterError

SAVED = re.compile(r"\.modules_to_save\.[^.]+(?=\.)")  # PEFT's name of a whole module that was trained
ORIGINAL, BASE_LAYER = ".original_module.", ".base_layer."


class Role(StrEnum):
    """What a tensor of a release is."""

    FACTOR = "factor"
    BACKBONE = "backbone"
    PART = "part"
    REPLACED = "replaced"  # by one of the same name that was trained


@dataclass(frozen=True)
class Layout:
    """How a release names its tensors.

    Attributes:
        language_model: what the names of the language model begin with, e.g. ``llm.``; empty where it is all there is.
        parts: part -> what its names begin with, e.g. ``projector: llm_proj.``.
        prefixes: what may stand before all names of a file and is left out, e.g. ``mol_llama.`` of a trainer.
        model_type: of the language model's config, e.g. ``llama``; empty where any will do.
        rank: of the LoRA factors where no config in the release says so; None where one must.
        alpha: likewise.
    """

    language_model: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    prefixes: list[str] = field(default_factory=list)
    model_type: str = ""
    rank: int | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class Source:
    """Tensors of one file or folder.

    Attributes:
        title: what messages call it.
        names: of its tensors.
        read: name -> tensor.
    """

    title: str
    names: tuple[str, ...]
    read: Callable[[str], Tensor]


@dataclass(frozen=True)
class PlacedTensor:
    """Where a tensor of a release belongs.

    Attributes:
        source: which it comes from.
        stored: its name there.
        role: what it is.
        part: the part that it belongs to; empty for factors and the backbone.
        name: PEFT's name of a factor, the backbone's name of a weight, or the name within the part.
    """

    source: Source
    stored: str
    role: Role
    part: str
    name: str

    def read(self) -> Tensor:
        """The tensor."""
        return self.source.read(self.stored)


def place(sources: list[Source], layout: Layout) -> list[PlacedTensor]:
    """The role of every tensor of a release; one that a later source holds again is replaced.

    Raises:
        AdapterError: tensors have no place in the layout, or two of one source have the same; they are listed.
    """
    placed: list[PlacedTensor] = []
    for source in sources:
        current = [_placed(source, stored, plain, layout) for stored, plain in plain_names(source, layout).items()]
        unplaced = [stored.stored for stored in current if stored.role is Role.PART and not stored.part]
        if unplaced:
            raise AdapterError(_unplaced(source, unplaced, layout))
        _check_once(current)
        current_keys = {(tensor.role, tensor.part, tensor.name) for tensor in current}
        placed = [_replaced(t) if (t.role, t.part, t.name) in current_keys else t for t in placed] + current
    return placed


def plain_names(source: Source, layout: Layout) -> dict[str, str]:
    """Name in the file -> name in the model: without a prefix of the layout that all names share."""
    shared = next((p for p in layout.prefixes if all(name.startswith(p) for name in source.names)), "")
    return {name: name.removeprefix(shared) for name in source.names}


def _placed(source: Source, stored: str, plain: str, layout: Layout) -> PlacedTensor:
    name = SAVED.sub("", plain)
    part = next((part for part, start in layout.parts.items() if name.startswith(start)), "")
    if part:
        role = Role.REPLACED if ORIGINAL in name else Role.PART
        return PlacedTensor(source, stored, role, part, name.removeprefix(layout.parts[part]))
    if not name.startswith(layout.language_model):
        return PlacedTensor(source, stored, Role.PART, "", name)
    inside = name.removeprefix(layout.language_model).removeprefix(PREFIX)
    match = FACTOR.fullmatch(inside)
    if match:
        return PlacedTensor(source, stored, Role.FACTOR, "", factor_name(PREFIX + match["module"], match["half"]))
    if ".lora_" in inside:  # an embedding's factors, a magnitude of DoRA
        return PlacedTensor(source, stored, Role.PART, "", name)
    return PlacedTensor(source, stored, Role.BACKBONE, "", inside.replace(BASE_LAYER, "."))


def _replaced(tensor: PlacedTensor) -> PlacedTensor:
    return PlacedTensor(tensor.source, tensor.stored, Role.REPLACED, tensor.part, tensor.name)


def _check_once(placed: list[PlacedTensor]) -> None:
    first: dict[tuple[Role, str, str], str] = {}
    for tensor in placed:
        key = tensor.role, tensor.part, tensor.name
        if key in first and tensor.role is not Role.REPLACED:
            raise AdapterError(
                f"{tensor.source.title} holds {tensor.name} twice, as {first[key]} and {tensor.stored}: save one "
                "adapter alone"
            )
        first[key] = tensor.stored


def _unplaced(source: Source, names: list[str], layout: Layout) -> str:
    starts: Mapping[str, str] = {"language model": layout.language_model, **layout.parts}
    expected = ", ".join(f"{start or '(any)'} ({part})" for part, start in starts.items())
    listing = "\n  ".join(names)
    return (
        f"{source.title} holds {len(names)} tensors that have no place in this release:\n  {listing}\nNames were "
        f"expected to begin with {expected}: name their part with release.parts.NAME=PREFIX, or choose another release"
    )
