"""Linear layers of a backbone by every name that adapters and checkpoints may give them."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from esmerge.model.backbone import decoder_layers
from esmerge.model.linear_layers import DOWN, GATE_UP, linear_layers, routed_layers

WEIGHT = ".weight"
OF_TEXT = frozenset(("model", "language_model", "text_model"))  # parts of paths that lead to a text model's layers


class ModuleNames:
    """Finds a model's linear layers by their own names, by those of older versions of transformers, which it renames
    when it loads a checkpoint, and by those of the text model alone, with a head or without, or inside a wrapper.

    Attributes:
        linear: path -> layer, of all linear layers.
        decoder: path of the list of decoder layers.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.linear = linear_layers(model)
        self.decoder = decoder_layers(model)[0]
        self._stacks = {f"{path}.{stack}" for path, _ in routed_layers(model) for stack in (GATE_UP, DOWN)}
        self._base = f"{model.base_model_prefix}."
        self._renamings = [
            renaming for renaming in get_model_conversion_mapping(model) if isinstance(renaming, WeightRenaming)
        ]

    def find(self, path: str) -> str | None:
        """The model's own name of a layer; None if it has none of that name."""
        return next((candidate for candidate in self._candidates(path) if candidate in self.linear), None)

    def find_stack(self, tensor: str) -> str | None:
        """The model's own name of a stack of experts' weights; None if it has none of that name."""
        return next((candidate for candidate in self._candidates(tensor) if candidate in self._stacks), None)

    def _candidates(self, path: str) -> Iterator[str]:
        yield path
        renamed = rename_source_key(path + WEIGHT, self._renamings, [])[0].removesuffix(WEIGHT)
        yield renamed
        yield self._base + renamed
        yield renamed.removeprefix(self._base)
        yield from self._in_text_model(path)

    def _in_text_model(self, path: str) -> Iterator[str]:
        """The same decoder layer, where what stands before its number leads to a text model too."""
        parts = path.split(".")
        number = next((index for index, part in enumerate(parts) if part.isdigit()), 0)
        decoder = self.decoder.split(".")
        head = parts[:number]
        if head and head[-1] == decoder[-1] and set(head[:-1]) <= OF_TEXT.union(decoder):
            yield ".".join([*decoder, *parts[number:]])
