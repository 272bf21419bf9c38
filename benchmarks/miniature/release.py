"""Everything that ``specialists=llama31_8b`` and the paper's experiments read, in miniature, in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from benchmarks.miniature import mol_llama
from benchmarks.miniature.backbone import HIDDEN, save_backbone
from benchmarks.miniature.prot2text_v2 import TinyRelease, save_release
from benchmarks.miniature.tables import write_probes, write_tables
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK = 8


@dataclass(frozen=True)
class Miniature:
    """What lies on disk.

    Attributes:
        root: all of it.
        backbone: Hugging Face folder.
        mol_llama: Mol-LLaMA as its trainer's checkpoint.
        mol_llama_folder: and as a Hugging Face folder.
        prot2text: Prot2Text-V2 in both of its forms.
        cell: PEFT folder.
        tables: of the benchmarks.
        probe: the authors' folder of texts.
        pool: the same texts as JSON lines.
    """

    root: Path
    backbone: Path
    mol_llama: Path
    mol_llama_folder: Path
    prot2text: TinyRelease
    cell: Path
    tables: Path
    probe: Path
    pool: Path

    def unpacking(self) -> dict[str, list[str]]:
        """Specialist -> the words of ``esmerge unpack``."""
        return {
            "molecule": ["release=mol_llama", f"checkpoint={self.mol_llama}"],
            "protein": [
                *("release=prot2text_v2", f"checkpoint={self.prot2text.base}"),
                f"adapter={self.prot2text.adapter}",
            ],
        }

    def paths(self, unpacked: Path, cell: Path | None = None) -> list[str]:
        """The words that a sweep over these needs, and nothing but paths.

        Args:
            unpacked: folder with what ``unpacking`` wrote.
            cell: the cell specialist's folder, if it is another.
        """
        return [
            f"specialists.backbone={self.backbone}",
            *(f"specialists.experts.{name}={unpacked / name}" for name in self.unpacking()),
            f"specialists.experts.cell={cell or self.cell}",
            f"specialists.encoders.protein.config={self.prot2text.esm}",
            f"benchmark.root={self.tables}",
        ]


def save_miniature(root: Path) -> Miniature:
    """Write all of it."""
    releases = root / "releases"
    backbone = save_backbone(root / "backbone")
    state = mol_llama_state(backbone)
    prot2text = save_release(backbone, releases / "prot2text_v2", RANK)
    write_probes(root)
    return Miniature(
        root,
        backbone,
        save_trainers_checkpoint(state, releases / "mol_llama"),
        save_hub_folder(state, releases / "mol_llama_hf"),
        prot2text,
        save_cell(backbone, root / "cell"),
        write_tables(root / "data"),
        root / "coefficient_data",
        root / "pool.jsonl",
    )


def mol_llama_state(backbone: Path, seed: int = 3) -> dict[str, Tensor]:
    """Encoder, projector, and the language model with one token more, inside PEFT's wrapper."""
    model = AutoModelForCausalLM.from_pretrained(backbone)
    model.resize_token_embeddings(model.config.vocab_size + 1, mean_resizing=False)
    settings = peft.LoraConfig(r=RANK, lora_alpha=32, lora_dropout=0.1, target_modules=SEVEN, task_type="CAUSAL_LM")
    wrapped = drawn(peft.get_peft_model(model, settings), seed)
    sizes = mol_llama.Sizes(hidden=HIDDEN)
    state = {f"llm.{name}": tensor.detach().clone() for name, tensor in wrapped.state_dict().items()}
    state |= {f"encoder.{name}": tensor for name, tensor in mol_llama.weights(mol_llama.encoder(sizes), seed).items()}
    return state | mol_llama.weights(mol_llama.projector(sizes), seed + 1)


def drawn(model: nn.Module, seed: int) -> nn.Module:
    """PEFT starts with B = 0: every factor gets values."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2)
    return model


def save_trainers_checkpoint(state: Mapping[str, Tensor], folder: Path) -> Path:
    """As Lightning writes it."""
    folder.mkdir(parents=True)
    content = {"epoch": 1, "global_step": 7, "state_dict": {f"mol_llama.{name}": state[name] for name in state}}
    torch.save(content, folder / "mol_llama.ckpt")
    return folder / "mol_llama.ckpt"


def save_hub_folder(state: Mapping[str, Tensor], folder: Path) -> Path:
    """As the hub holds it."""
    folder.mkdir(parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "mol_llama", "llm_config": {"lora_config": {"r": RANK, "lora_alpha": 32}}}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def save_cell(backbone: Path, folder: Path, seed: int = 5) -> Path:
    """As PEFT writes it."""
    settings = peft.LoraConfig(r=RANK, lora_alpha=32, target_modules=SEVEN, task_type="CAUSAL_LM")
    drawn(peft.get_peft_model(AutoModelForCausalLM.from_pretrained(backbone), settings), seed).save_pretrained(folder)
    return folder
