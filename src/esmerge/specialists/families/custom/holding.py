"""How a backbone's weights are held in memory: in fewer bits, and over several GPUs."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from esmerge.adapters.lora import some
from esmerge.core.errors import ConfigError
from esmerge.specialists.families.custom.source import LoadedBackbone


def holding(source: LoadedBackbone, dtype: str | torch.dtype, device: str) -> dict[str, object]:
    """What ``from_pretrained`` is told of it; nothing for a model in plain numbers on one device.

    Args:
        source: bits and devices.
        dtype: number format in which a quantised layer computes; ``auto`` is bfloat16 there.
        device: the device where none is named.

    Raises:
        ConfigError: bits are asked for, and bitsandbytes is not installed.
    """
    options: dict[str, object] = {}
    if source.device_map is not None:
        options["device_map"] = source.device_map
    if source.quantise is not None:
        options.setdefault("device_map", {"": device})
        options["quantization_config"] = _quantised(source.quantise, dtype)
    return options


def keep_differentiable(model: nn.Module) -> None:
    """Gradients pass through 4-bit layers on a CPU, too.

    bitsandbytes would pack such a layer's weights, for speed, when it is first read without gradients. The kernel that
    reads packed weights has no derivative, so that whatever lies before the layer would silently get none.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def check_resident(model: nn.Module) -> None:
    """Refuse a model of which a part has no memory: accelerate moves what does not fit to main memory or the disk.

    Raises:
        ConfigError: naming some of its weights.
    """
    absent = [name for name, weight in model.named_parameters() if weight.is_meta]
    if absent:
        raise ConfigError(
            f"backbone.device_map left {some(absent)} on no GPU, since they did not fit: say backbone.quantise=8 or 4, "
            "or give more GPUs"
        )


def _quantised(bits: int, dtype: str | torch.dtype) -> BitsAndBytesConfig:
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"backbone.quantise={bits} needs bitsandbytes: pip install 'es-merging-bench[quantise]', in the "
            "checkout pip install '.[quantise]'; or leave the backbone in bfloat16, backbone.quantise=null"
        )
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    number = torch.bfloat16 if isinstance(dtype, str) else dtype
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=number)
