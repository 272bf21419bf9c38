"""Prot2Text-V2's release in miniature: its file layout, key names and config fields, with weights drawn from a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peft
import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, EsmConfig, EsmModel

LAYERS, WIDTH, INNER = 2, 8, 10  # of ESM-2; between the projector's layers
TARGETS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
FREQUENCIES = "encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"


@dataclass(frozen=True)
class TinyRelease:
    """What lies on disk.

    Attributes:
        base: state dict of the whole model before its adapter.
        adapter: PEFT folder with LoRA factors, fc1 and fc2.
        esm: ESM-2's Hugging Face folder, as far as its config.
        whole: one Hugging Face folder of shards, with the adapter folded in.
        encoder: name -> weight of ESM-2.
        projector: name -> weight of the projector, trained.
    """

    base: Path
    adapter: Path
    esm: Path
    whole: Path
    encoder: Mapping[str, Tensor]
    projector: Mapping[str, Tensor]


def esm_config(**changes: object) -> EsmConfig:
    """The fields of ``facebook/esm2_t36_3B_UR50D``, smaller."""
    fields: dict[str, object] = {
        "vocab_size": 33,
        "mask_token_id": 32,
        "pad_token_id": 1,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 1026,
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "rotary",
        "emb_layer_norm_before": False,
        "token_dropout": True,
        "is_folding_model": False,
    }
    return EsmConfig(**{**fields, **changes})


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """A weight for every shape, in the order of their names: the same with any version of torch."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy((rng.standard_normal(shapes[name]) * 0.4).astype(np.float32)) for name in sorted(shapes)
    }


def encoder_weights(seed: int = 0) -> dict[str, Tensor]:
    """ESM-2's weights under the names that the release gives them, with frequencies in every layer."""
    model = EsmModel(esm_config(), add_pooling_layer=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if "inv_freq" not in name}
    weights = drawn({**shapes, "embeddings.position_embeddings.weight": (1026, WIDTH)}, seed)
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, 4, 2).float() / 4))
    return {**weights, **{FREQUENCIES.format(layer): frequencies.clone() for layer in range(LAYERS)}}


def projector_weights(hidden: int, seed: int = 1) -> dict[str, Tensor]:
    """fc1 and fc2, and the two norms that nothing reads."""
    shapes = {
        **{"fc1.weight": (INNER, WIDTH), "fc1.bias": (INNER,), "fc2.weight": (hidden, INNER), "fc2.bias": (hidden,)},
        **{f"ln1.{kind}": (INNER,) for kind in ("weight", "bias")},
        **{f"ln2.{kind}": (hidden,) for kind in ("weight", "bias")},
    }
    return drawn(shapes, seed)


class Model(nn.Module):
    """The modules of the release by its names; only what PEFT must find is real."""

    def __init__(self, backbone: Path, projector: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.adapter = nn.Module()
        for layer in ("fc1", "fc2"):
            rows, columns = projector[f"{layer}.weight"].shape
            setattr(self.adapter, layer, nn.Linear(columns, rows))
        self.llama_decoder = AutoModelForCausalLM.from_pretrained(backbone)


def save_release(backbone: Path, folder: Path, rank: int = 4) -> TinyRelease:
    """Write the release in both of its forms, made on a backbone, with an alpha of twice the rank."""
    folder.mkdir(parents=True, exist_ok=True)
    language_model = AutoModelForCausalLM.from_pretrained(backbone)
    hidden = language_model.config.hidden_size
    encoder, projector, trained = encoder_weights(), projector_weights(hidden), projector_weights(hidden, seed=2)
    trained = {**projector, **{name: tensor for name, tensor in trained.items() if name.startswith("fc")}}
    torch.save(_named(encoder, projector, language_model.state_dict()), folder / "model_checkpoint.pt")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.1,
        target_modules=TARGETS,
        modules_to_save=["adapter.fc1", "adapter.fc2"],
    )
    wrapped = peft.PeftModel(Model(backbone, projector), config)
    _train(wrapped, trained)
    wrapped.save_pretrained(folder / "adapter_checkpoint")
    esm_config().save_pretrained(folder / "esm2")
    folded = wrapped.merge_and_unload().llama_decoder
    whole = folder / "whole"
    whole.mkdir()
    save_torch_state_dict(_named(encoder, trained, folded.state_dict()), whole, max_shard_size="40KB")
    fields = {
        "model_type": "esm2llama_instruct",
        "architectures": ["Esm2LlamaInstructForCausalLM"],
        "esm_config": esm_config().to_dict(),
        "adapter_config": {"model_type": "modality_adapter", "input_dim": WIDTH, "intermediate_dim": INNER,
                           "output_dim": hidden, "dropout_rate": 0.3},
        "llama_config": language_model.config.to_dict(),
        "placeholder_id": 128003,
    }  # fmt: skip
    (whole / "config.json").write_text(json.dumps(fields))
    paths = [folder / name for name in ("model_checkpoint.pt", "adapter_checkpoint", "esm2", "whole")]
    return TinyRelease(*paths, encoder, trained)


def _named(encoder: Mapping[str, Tensor], projector: Mapping[str, Tensor], llama: Mapping[str, Tensor]) -> dict:
    parts = {"esm_encoder.": encoder, "adapter.": projector, "llama_decoder.": llama}
    return {f"{start}{name}": tensor.clone() for start, part in parts.items() for name, tensor in part.items()}


def _train(wrapped: peft.PeftModel, trained: Mapping[str, Tensor]) -> None:
    """Give every factor, and the modules that are saved whole, the values of a training."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.2)
        for layer in ("fc1", "fc2"):
            module = wrapped.base_model.model.adapter.get_submodule(layer).modules_to_save["default"]
            for kind in ("weight", "bias"):
                getattr(module, kind).copy_(trained[f"{layer}.{kind}"])
