"""LoRA adapters on disk, as PEFT folders: ``adapter_config.json``, ``adapter_model.safetensors`` and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from esmerge.adapters.card import card_text
from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import (
    PREFIX,
    LazyModules,
    LoraFactors,
    LoraState,
    check_finite,
    factor_name,
    finite_when_read,
)
from esmerge.adapters.peft_config import plain_config, rank_and_scale, read_config, unknown_settings
from esmerge.adapters.peft_files import (
    CONFIG,
    WEIGHTS,
    Stored,
    adapter_folder,
    files_beside,
    read_headers,
    weight_files,
)
from esmerge.adapters.peft_keys import factor_keys
from esmerge.adapters.reader import TensorFiles
from esmerge.core.errors import AdapterError
from esmerge.storage.tensor_stream import FORMATS, write_tensors
from esmerge.storage.whole_folder import whole_folder

CARD = "README.md"
LOADING = "A LoRA adapter; load it with `peft.PeftModel.from_pretrained`."
DTYPES = {stored: dtype for dtype, stored in FORMATS.items()}


def load_adapter(folder: str | Path, name: str) -> LoraState:
    """Read a PEFT LoRA adapter into memory; arguments and errors are those of ``open_adapter``."""
    return open_adapter(folder, name).materialize()


def open_adapter(folder: str | Path, name: str) -> LoraState:
    """A PEFT LoRA adapter: its header, and tensors that are read from disk when they are asked for, module by module.

    Args:
        folder: a folder that PEFT's ``save_pretrained`` wrote, or the one above it; it must stay in place while the
            adapter is used.
        name: what the adapter is called in error messages.

    Raises:
        AdapterError: a file is missing or not safetensors, the adapter is not plain LoRA, or its tensors do not fit its
            config; when a tensor is read, that it is not finite.
    """
    folder = adapter_folder(folder, name)
    config = read_config(folder, name)
    paths = weight_files(folder, name)
    tensors = read_headers(paths, name)
    keys = factor_keys({key: stored for key, (_, stored) in tensors.items()}, name)
    stored = {plain: tensors[key][1] for plain, key in keys.stored.items()}
    modules = sorted(keys.modules, key=natural)
    facts = {module: rank_and_scale(config, module, keys.written(module)) for module in modules}
    header = {module: _module_header(module, stored, facts[module], name) for module in modules}
    files = TensorFiles({plain: (tensors[key][0], key) for plain, key in keys.stored.items()})

    def read(module: str) -> LoraFactors:
        a, b = files.read(*(factor_name(module, half) for half in "AB"))
        return LoraFactors(a, b, header[module].scale)

    factors = LazyModules(header, read, header, kept_open=files.kept_open)
    remarks = {
        "left out of its names": keys.wrappers,
        "settings that are not known here": unknown_settings(config),
        "weights beside it, which a merge leaves out": files_beside(folder, paths),
    }
    notes = {remark: ", ".join(values) for remark, values in remarks.items() if values}
    return finite_when_read(LoraState(factors, config.get("base_model_name_or_path"), notes), name)


def save_adapter(state: LoraState, folder: str | Path, base_model: str | None = None, card: str | None = None) -> None:
    """Write an adapter as a PEFT folder, all of it or nothing; an existing folder is replaced.

    Args:
        state: factors of any ranks and scales; computed on demand, they are asked for once, module by module.
        folder: where to.
        base_model: name or path of the backbone; the state's own by default.
        card: text of the model card below its title.

    Raises:
        AdapterError: a module name is not PEFT's, or a value is NaN or infinite.
    """
    folder = Path(folder)
    with whole_folder(folder) as partial:
        write_adapter(state, partial, folder.name, base_model, card)


def write_adapter(
    state: LoraState, folder: Path, title: str, base_model: str | None = None, card: str | None = None
) -> dict[str, tuple[int, float]]:
    """Write an adapter's files into a folder that is there; for arguments and errors see ``save_adapter``.

    Args:
        title: what messages and the card call it.

    Returns:
        module -> (rank, scale).
    """
    foreign = [module for module in state.modules if not module.startswith(PREFIX)]
    if foreign or not state.modules:
        raise AdapterError(f"modules to be saved must be named {PREFIX}<path>, got {', '.join(foreign) or 'none'}")
    facts: dict[str, tuple[int, float]] = {}

    def noted(module: str) -> LoraFactors:
        factors = state.modules[module]
        check_finite(LoraState({module: factors}), title)
        facts[module] = (factors.rank, factors.scale)
        return factors

    write_tensors(folder / WEIGHTS, state.passed_through(noted).tensors())
    base_model = base_model if base_model is not None else state.base_model
    (folder / CONFIG).write_text(json.dumps(plain_config(facts, base_model), indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(
        card_text(title, "peft", ["lora"], base_model, card or LOADING, state.notes), encoding="utf-8"
    )
    return facts


def _module_header(module: str, stored: Mapping[str, Stored], configured: tuple[int, float], name: str) -> ModuleHeader:
    (a, a_format), (b, b_format) = (stored[factor_name(module, factor)] for factor in "AB")
    rank, scale = configured
    if a[0] != rank or b[1] != rank:
        raise AdapterError(f"adapter {name!r}: {module} has A {a} and B {b}, but its config says rank {rank}")
    return ModuleHeader(rank, a[1], b[0], DTYPES[a_format], DTYPES[b_format], scale)


def natural(module: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts layer 2 before layer 10, as the backbone does."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in module.split("."))
