"""Weights in a file that ``torch.save`` wrote, read without running anything that it may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
from torch import Tensor

from esmerge.core.errors import AdapterError

ENDINGS = (".ckpt", ".pt", ".pth", ".bin")
STATE = "state_dict"  # where Lightning keeps the weights, beside epochs and optimiser states
FOREIGN = re.compile(r"GLOBAL ([\w.]+)")


def read_torch_file(path: Path, inside: str = STATE) -> dict[str, Tensor]:
    """Name -> tensor, of a state dict or of the one inside a checkpoint; mapped from disk where that can be.

    Args:
        path: of the file.
        inside: where a checkpoint keeps its state dict.

    Raises:
        AdapterError: the file is absent or broken, holds objects besides tensors and plain values, or no state dict.
    """
    if not path.is_file():
        raise AdapterError(f"{path} does not exist: expected a file that torch.save wrote")
    content = _load(path)
    state = content.get(inside, content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not state:
        raise AdapterError(f"{path} holds a {type(state).__name__}, expected a state dict, name: tensor")
    strangers = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise AdapterError(
            f"{path} holds {', '.join(strangers[:5])} beside tensors: expected a state dict, or a checkpoint with "
            f"one under {inside!r}"
        )
    return {str(name): cast(Tensor, value) for name, value in state.items()}


def _load(path: Path) -> object:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format of torch before 1.6
    except UnpicklingError as error:
        foreign = FOREIGN.search(str(error))
        extras = f"the object {foreign[1]}" if foreign else "objects"
        raise AdapterError(
            f"{path} holds {extras} beside tensors, and reading it would run code: where it was made, load it and save "
            f"its weights alone, torch.save(checkpoint[{STATE!r}], 'weights.pt')"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise AdapterError(f"{path} cannot be read ({str(error).splitlines()[0]}): copy it again") from error
