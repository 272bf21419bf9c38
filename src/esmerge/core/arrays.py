"""Tensors for readers that do without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esmerge.core.lazy import LazyMapping


def as_arrays(tensors: Mapping[str, Tensor]) -> Mapping[str, NDArray[np.floating]]:
    """The same values as NumPy arrays, one made whenever it is looked up; half precision as float32."""

    def array(name: str) -> NDArray[np.floating]:
        tensor = tensors[name].detach().cpu()
        values: NDArray[np.floating] = tensor.to(torch.promote_types(tensor.dtype, torch.float32)).numpy()
        return values

    return LazyMapping(tensors, array)
