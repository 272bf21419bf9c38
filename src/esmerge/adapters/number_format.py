"""Adapters in another number format."""

from __future__ import annotations

from dataclasses import replace

import torch

from esmerge.adapters.lora import LoraFactors, LoraState


def rounded(state: LoraState, dtype: torch.dtype) -> LoraState:
    """An adapter in float32 as it comes back from a number format."""
    return in_format(in_format(state, dtype), torch.float32)


def in_format(state: LoraState, dtype: torch.dtype) -> LoraState:
    """An adapter whose factors are rounded to a number format, or written out in a wider one."""
    modules = {name: LoraFactors(f.a.to(dtype), f.b.to(dtype), f.scale) for name, f in state.modules.items()}
    return replace(state, modules=modules)
