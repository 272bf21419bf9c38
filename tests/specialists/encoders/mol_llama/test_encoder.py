"""The registered encoder: from a trainer's checkpoint, unpacked, to 8 soft tokens a molecule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from benchmarks.miniature import mol_llama as miniature
from benchmarks.miniature.mol_llama import Sizes, weights, write_networks, write_parts
from safetensors.torch import save_file
from tests.conftest import composed
from tests.standalone.tiny import save_backbone
from torch import Tensor
from transformers import AutoModelForCausalLM

from esmerge.core.errors import ConfigError, InputError
from esmerge.experiment.unpacking.plan import plan_unpacking
from esmerge.experiment.unpacking.request import read_unpacking
from esmerge.experiment.unpacking.write import unpack
from esmerge.specialists.encoders.mol_llama.encoder import MolLlamaSettings, mol_llama
from esmerge.specialists.encoders.mol_llama.files import PARTS
from esmerge.specialists.soft_tokens.released import choose_released

CPU = torch.device("cpu")
HIDDEN = 16  # of the tiny backbone
BRIDGED = "C1=C2CC1C2"  # no geometry fits its double bond


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> MolLlamaSettings:
    folder = write_parts(tmp_path_factory.mktemp("release") / "mol", Sizes())
    return MolLlamaSettings(path=str(folder), attempts=3)


def trainer_state(backbone: Path) -> dict[str, Tensor]:
    """What the release's trainer stores: LoRA factors, and of the encoder only what it trained."""
    config = peft.LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    llm = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(backbone), config)
    factors = {f"llm.{name}": tensor for name, tensor in llm.state_dict().items() if "lora_" in name}
    encoder = weights(miniature.prefixed("encoder.", miniature.trained(Sizes())), 0)
    return factors | encoder | weights(miniature.projector(Sizes()), 1)


def test_from_a_trainers_checkpoint_to_soft_tokens(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    state = {f"mol_llama.{name}": tensor for name, tensor in trainer_state(backbone).items()}
    torch.save({"epoch": 9, "state_dict": state}, tmp_path / "last.ckpt")
    out = tmp_path / "molecule"
    words = ("release=mol_llama", f"checkpoint={tmp_path / 'last.ckpt'}", f"backbone={backbone}", f"out={out}")
    unpack(plan_unpacking(*read_unpacking(composed(*words, config="unpack"))))
    unimol, moleculestm = write_networks(tmp_path, Sizes())
    node = {"name": "mol_llama", "path": str(out), "unimol": str(unimol), "moleculestm": str(moleculestm)}
    encoder = choose_released(node, "encoders.molecule")
    assert encoder.hidden() == HIDDEN
    assert encoder.load(CPU)("CCO").shape == (8, HIDDEN)


def test_a_whole_hugging_face_folder(settings: MolLlamaSettings, tmp_path: Path) -> None:
    files = settings.files().read()
    save_file({**files, "llm.lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors", {"format": "pt"})
    encoder = mol_llama(replace(settings, path=str(tmp_path)))
    assert torch.equal(encoder.load(CPU)("CCO"), mol_llama(settings).load(CPU)("CCO"))
    assert encoder.digest() == mol_llama(settings).digest(), "content counts, not where it lies"


def test_the_parts_are_those_of_the_release() -> None:
    assert dict(composed("release=mol_llama", config="unpack").release.parts) == PARTS


def test_molecules_and_seeds_differ(settings: MolLlamaSettings) -> None:
    encoder, other = mol_llama(settings), mol_llama(replace(settings, seed=1))
    first, second = encoder.load(CPU), other.load(CPU)
    assert encoder.check("OCC") == "CCO" and torch.equal(first("OCC"), first("CCO"))
    assert (first("CCO") - first("CCN")).abs().max() > 1e-3
    assert (first("CCCCCO") - second("CCCCCO")).abs().max() > 1e-5
    assert encoder.digest() != other.digest()


def test_soft_tokens_in_bfloat16_are_those_rounded(settings: MolLlamaSettings) -> None:
    exact, rounded = mol_llama(settings).load(CPU)("CCO"), mol_llama(replace(settings, dtype="bfloat16"))
    assert torch.equal(rounded.load(CPU)("CCO"), exact.bfloat16()) and exact.dtype == torch.float32


def test_a_molecule_without_a_conformer_is_refused(settings: MolLlamaSettings) -> None:
    encoder = mol_llama(settings)
    with pytest.raises(InputError, match=r"SMILES 'C1=C2CC1C2' has no conformer"):
        encoder.load(CPU)(encoder.check(BRIDGED))
    with pytest.raises(InputError, match=r"SMILES 'C1CC' is not a valid molecule"):
        encoder.check("C1CC")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder.attempts=0: expected a number from 1"):
        MolLlamaSettings(attempts=0)
    with pytest.raises(ConfigError, match=r"encoder.seed=-1: expected a number from 0"):
        MolLlamaSettings(seed=-1)
