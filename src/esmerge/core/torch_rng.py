"""Random numbers of torch, addressed by name."""

from __future__ import annotations

import hashlib

import torch


def torch_generator(seed: int, *names: str) -> torch.Generator:
    """Random numbers that depend on the seed and on what they are for, not on the order in which they are drawn."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
