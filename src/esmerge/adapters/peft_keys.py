"""Names of tensors in adapter files, as PEFT and what wraps models while they train write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from esmerge.adapters.lora import PREFIX, factor_name, some
from esmerge.adapters.peft_files import Stored
from esmerge.core.errors import AdapterError
from esmerge.storage.tensor_stream import FORMATS

FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])(\.(?P<adapter>[^.]+))?\.weight")
WRAPPERS = {  # parts that a wrapper adds to the names of all that is inside it
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
PARALLEL = re.compile(r"^(module\.)+(?=base_model\.)")  # of DistributedDataParallel and DeepSpeed, around PEFT's model
UNGATHERED = (
    "they were saved before the pieces that DeepSpeed ZeRO-3 or FSDP keeps on each device were gathered. Save again "
    "with stage3_gather_16bit_weights_on_model_save (ZeRO-3) or a full state dict (FSDP); zero_to_fp32.py rebuilds the "
    "weights from a ZeRO-3 checkpoint"
)


@dataclass(frozen=True)
class FactorKeys:
    """Where an adapter's factors stand in its files.

    Attributes:
        stored: ``factor_name(module, half)`` -> name in the file.
        modules: in the files' order.
        wrappers: what had wrapped the model, by the parts of names that were left out; in words.
    """

    stored: Mapping[str, str]
    modules: tuple[str, ...]
    wrappers: tuple[str, ...]

    def written(self, module: str) -> str:
        """A module's name in the files, with the parts that a wrapper added."""
        match = FACTOR.fullmatch(PARALLEL.sub("", self.stored[factor_name(module, "A")]))
        assert match is not None
        return match["module"]


def factor_keys(header: Mapping[str, Stored], name: str) -> FactorKeys:
    """The factors of a file under the names that PEFT gives them.

    Args:
        header: name in the file -> shape and number format.
        name: what the adapter is called in error messages.

    Raises:
        AdapterError: factors are empty or in pieces, several adapters share the file, a tensor is no LoRA factor, or a
            module lacks one of its two.
    """
    _refuse_pieces(header, name)
    matches = {key: FACTOR.fullmatch(_unwrapped(key)) for key in header}
    _refuse_strangers(header, matches, name)
    stored: dict[str, str] = {}
    for key, match in matches.items():
        assert match is not None
        plain = factor_name(_prefixed(match["module"]), match["half"])
        if plain in stored:
            raise AdapterError(
                f"adapter {name!r} holds {plain} twice, as {stored[plain]} and {key}: save each adapter in a folder of "
                "its own"
            )
        stored[plain] = key
    modules = tuple(dict.fromkeys(_prefixed(match["module"]) for match in matches.values() if match))
    missing = sorted(f"{m}.lora_{half}" for m in modules for half in "AB" if factor_name(m, half) not in stored)
    if missing or not modules:
        raise AdapterError(f"adapter {name!r} lacks LoRA factors: {', '.join(missing) or 'it holds none at all'}")
    return FactorKeys(stored, modules, _wrappers(header))


def _unwrapped(key: str) -> str:
    return PARALLEL.sub("", ".".join(part for part in key.split(".") if part not in WRAPPERS))


def _prefixed(module: str) -> str:
    """PEFT's name; a model that adapters were injected into saves them without PEFT's own prefix."""
    return module if module.startswith(PREFIX) else PREFIX + module


def _wrappers(keys: Iterable[str]) -> tuple[str, ...]:
    parts = {part for key in keys for part in key.split(".")}
    return tuple(f"{part}. of {wrapper}" for part, wrapper in WRAPPERS.items() if part in parts)


def _refuse_pieces(header: Mapping[str, Stored], name: str) -> None:
    factors = {key: shape for key, (shape, _) in header.items() if ".lora_A" in key or ".lora_B" in key}
    empty = [f"{key} {shape}" for key, shape in factors.items() if 0 in shape]
    if empty:
        raise AdapterError(f"adapter {name!r}: the factors {some(empty)} are empty: {UNGATHERED}")
    flat = [f"{key} {shape}" for key, shape in factors.items() if len(shape) == 1 and key.endswith(".weight")]
    if flat:
        raise AdapterError(f"adapter {name!r}: the factors {some(flat)} are flat pieces, no matrices: {UNGATHERED}")


def _refuse_strangers(header: Mapping[str, Stored], matches: Mapping[str, re.Match[str] | None], name: str) -> None:
    unknown = [
        f"{key} {shape} {kind}"
        for key, (shape, kind) in header.items()
        if matches[key] is None or len(shape) != 2 or kind not in FORMATS.values()
    ]
    if unknown:
        raise AdapterError(
            f"adapter {name!r} holds tensors that are not LoRA factors: {', '.join(unknown)}; embeddings, biases, "
            "whole modules and quantised factors cannot be merged: save the adapter without them"
        )
    adapters = sorted({match["adapter"] for match in matches.values() if match and match["adapter"]})
    if len(adapters) > 1:
        raise AdapterError(
            f"adapter {name!r}: one file holds the adapters {', '.join(adapters)}: save each in a folder of its own "
            "(PEFT's save_pretrained does, with selected_adapters)"
        )
