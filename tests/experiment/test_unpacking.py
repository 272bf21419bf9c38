"""Releases of each format in miniature, same layout and names: every tensor is placed, or the run stops."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import composed
from tests.standalone.tiny import save_backbone, train_adapter
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from esmerge.adapters.peft_folder import load_adapter
from esmerge.core.errors import AdapterError, BenchError, ConfigError
from esmerge.experiment.unpacking.plan import plan_unpacking
from esmerge.experiment.unpacking.request import read_unpacking
from esmerge.experiment.unpacking.write import unpack

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WIDTH, PROTEIN, INTER = 16, 12, 10


class Config:
    """An object that no reader of weights alone rebuilds."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("base") / "backbone")


def unpacked(backbone: Path, folder: Path, *overrides: str) -> Path:
    paths = [f"backbone={backbone}", f"out={folder / 'out'}"]
    return unpack(plan_unpacking(*read_unpacking(composed(*paths, *overrides, config="unpack"))))


def shaken(model: nn.Module) -> nn.Module:
    """PEFT starts with B = 0: every factor gets values."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2)
    return model


def mol_llama(backbone: Path, rows: int = 2) -> dict[str, Tensor]:
    """The state dict of a molecule specialist: encoder, projector, and a language model inside PEFT's wrapper."""
    model = nn.Module()
    llm = AutoModelForCausalLM.from_pretrained(backbone)
    llm.resize_token_embeddings(330 + rows)
    config = peft.LoraConfig(r=8, lora_alpha=32, target_modules=SEVEN, task_type="CAUSAL_LM")
    model.llm = shaken(peft.get_peft_model(llm, config))
    model.encoder = nn.Module()
    model.encoder.register_buffer("position_ids", torch.arange(4))
    model.encoder.blending_module = nn.Linear(6, 6)
    model.encoder.Qformer = nn.Linear(6, 6)
    model.llm_proj = nn.Linear(6, WIDTH)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def lightning(state: Mapping[str, Tensor], path: Path, **fields: object) -> Path:
    content = {"epoch": 3, "state_dict": {f"mol_llama.{name}": tensor for name, tensor in state.items()}, **fields}
    torch.save(content, path)
    return path


def expected_deltas(state: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    start, end = "llm.base_model.model.", ".lora_A.default.weight"
    modules = [name.removesuffix(end) for name in state if name.endswith(end)]
    return {
        f"base_model.model.{module.removeprefix(start)}": scale
        * state[f"{module}.lora_B.default.weight"]
        @ state[f"{module}{end}"]
        for module in modules
    }


def assert_deltas(folder: Path, expected: Mapping[str, Tensor]) -> None:
    state = load_adapter(folder, "unpacked")
    assert state.modules.keys() == expected.keys() and len(expected) == 21
    for module, factors in state.modules.items():
        torch.testing.assert_close(factors.delta(), expected[module])


def test_a_lightning_checkpoint(backbone: Path, tmp_path: Path) -> None:
    state = mol_llama(backbone)
    out = unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={lightning(state, tmp_path / 'last.ckpt')}")
    assert_deltas(out, expected_deltas(state, 32 / 8))
    encoder = load_file(out / "parts" / "encoder.safetensors")
    assert encoder.keys() == {n.removeprefix("encoder.") for n in state if n.startswith("encoder.")}
    assert encoder["position_ids"].tolist() == [0, 1, 2, 3]
    projector = load_file(out / "parts" / "projector.safetensors")
    torch.testing.assert_close(projector["weight"], state["llm_proj.weight"])
    rows = load_file(out / "parts" / "added_rows.safetensors")["model.embed_tokens.weight"]
    torch.testing.assert_close(rows, state["llm.base_model.model.model.embed_tokens.weight"][330:])
    table = pd.read_csv(out / "placement.csv")
    assert len(table) == len(state) and set(table["role"]) == {"factor", "backbone", "part"}


def test_peft_loads_what_was_unpacked(backbone: Path, tmp_path: Path) -> None:
    state = mol_llama(backbone, rows=0)
    out = unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={lightning(state, tmp_path / 'last.ckpt')}")
    original = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(backbone), peft.LoraConfig(r=8, lora_alpha=32, target_modules=SEVEN)
    )
    original.load_state_dict({n.removeprefix("llm."): t for n, t in state.items() if n.startswith("llm.")})
    loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), out)
    ids = torch.tensor([[4, 90, 211]])
    torch.testing.assert_close(loaded(input_ids=ids).logits, original.eval()(input_ids=ids).logits)


def test_a_checkpoint_without_the_frozen_language_model(backbone: Path, tmp_path: Path) -> None:
    state = {n: t for n, t in mol_llama(backbone).items() if not n.startswith("llm.") or "lora_" in n}
    out = unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={lightning(state, tmp_path / 'last.ckpt')}")
    assert_deltas(out, expected_deltas(state, 4.0))


def test_a_hugging_face_folder_whose_config_says_the_scale(backbone: Path, tmp_path: Path) -> None:
    state, folder = mol_llama(backbone), tmp_path / "hub"
    folder.mkdir()
    save_file({n: t.contiguous() for n, t in state.items()}, folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "mol_llama", "llm_config": {"lora_config": {"r": 8, "lora_alpha": 32}}}
    (folder / "config.json").write_text(json.dumps(config))
    out = unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={folder}")
    assert_deltas(out, expected_deltas(state, 4.0))
    assert json.loads((out / "parts" / "config.json").read_text()) == config, "encoders are built from it"
    with pytest.raises(AdapterError, match="r=8, lora_alpha=16.0 and r=8, lora_alpha=32.0"):
        unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={folder}", "release.alpha=16", "overwrite=true")


def hub_folder(backbone: Path, folder: Path, config: Mapping[str, object]) -> Path:
    """The molecule specialist as a Hugging Face folder with this config."""
    folder.mkdir()
    tensors = {name: tensor.contiguous() for name, tensor in mol_llama(backbone).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def lora_config(**options: object) -> dict[str, object]:
    return {"model_type": "mol_llama", "llm_config": {"lora_config": {"r": 8, "lora_alpha": 32, **options}}}


def scales(folder: Path) -> dict[str, float]:
    """Module's path -> scale."""
    header = load_adapter(folder, "unpacked").header
    return {module.removeprefix("base_model.model."): facts.scale for module, facts in header.items()}


def test_rank_stabilised_lora_of_a_model_config(backbone: Path, tmp_path: Path) -> None:
    folder = hub_folder(backbone, tmp_path / "hub", lora_config(use_rslora=True, alpha_pattern={"head": 4}))
    found = scales(unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={folder}"))
    assert list(found.values()) == pytest.approx([32 / 8**0.5] * 21)


def test_patterns_of_a_model_config(backbone: Path, tmp_path: Path) -> None:
    alphas = {r"^model\.layers\.0\.self_attn\.q_proj": 16, "layers.1.mlp.up_proj": 64, r"^llm\.model\.norm": 2}
    folder = hub_folder(
        backbone, tmp_path / "hub", lora_config(r=4, rank_pattern={"_proj": 8, ".*": 8}, alpha_pattern=alphas)
    )
    overrides = ("release=mol_llama", "release.rank=null", f"checkpoint={folder}")
    found = scales(unpacked(backbone, tmp_path, *overrides))
    assert found.pop("model.layers.0.self_attn.q_proj") == 2.0 and found.pop("model.layers.1.mlp.up_proj") == 8.0
    assert len(found) == 19 and set(found.values()) == {4.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, r"'checkpoint' is not plain LoRA .*use_dora=True"),
        ({"bias": "all"}, "biases of the backbone were trained"),
        ({"init_lora_weights": "pissa"}, "the backbone was edited"),
        ({"peft_type": "ADALORA"}, "is of type 'ADALORA'"),
        ({"lora_alpha": None}, r"config\.json does not say lora_alpha"),
        ({"r": 8.5}, r"config\.json says 'r': 8\.5, expected a whole number"),
        ({"alpha_pattern": {"(": 4}}, "which is no regular expression"),
    ],
)
def test_settings_of_a_model_config_that_are_not_plain_lora(
    backbone: Path, tmp_path: Path, options: Mapping[str, object], message: str
) -> None:
    folder = hub_folder(backbone, tmp_path / "hub", lora_config(**options))
    with pytest.raises(AdapterError, match=message):
        unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={folder}")


def test_modules_trained_beside_the_factors_have_their_own_place(backbone: Path, tmp_path: Path) -> None:
    folder = hub_folder(backbone, tmp_path / "hub", lora_config(modules_to_save=["llm_proj"], bias="none"))
    assert set(scales(unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={folder}")).values()) == {4.0}


def test_several_settings_of_a_model_config_must_agree(backbone: Path, tmp_path: Path) -> None:
    same = {"peft": {"r": 8, "lora_alpha": 32.0, "use_rslora": None, "rank_pattern": {}, "use_dora": False}}
    unused = {"other": {"r": None, "lora_alpha": None}}
    folder = hub_folder(backbone, tmp_path / "hub", {**lora_config(), **same, **unused})
    overrides = ("release=mol_llama", f"checkpoint={folder}")
    assert set(scales(unpacked(backbone, tmp_path, *overrides)).values()) == {4.0}
    other = {"peft": {"r": 8, "lora_alpha": 32, "use_rslora": True, "alpha_pattern": {"q_proj": 4}}}
    (folder / "config.json").write_text(json.dumps({**lora_config(), **other}))
    listing = r"r=8, lora_alpha=32\.0 and r=8, lora_alpha=32\.0, use_rslora=True, alpha_pattern=\{'q_proj': 4\}"
    with pytest.raises(AdapterError, match=listing):
        unpacked(backbone, tmp_path, *overrides, "overwrite=true")


class Protein(nn.Module):
    """Encoder, adapter and language model by the names that the protein release gives them."""

    def __init__(self, backbone: Path) -> None:
        super().__init__()
        self.esm_encoder = nn.Linear(PROTEIN, PROTEIN)
        self.adapter = nn.Module()
        self.adapter.fc1, self.adapter.fc2 = nn.Linear(PROTEIN, INTER), nn.Linear(INTER, WIDTH)
        self.adapter.ln1 = nn.LayerNorm(INTER)
        self.llama_decoder = AutoModelForCausalLM.from_pretrained(backbone)


def prot2text(backbone: Path, folder: Path) -> tuple[Path, Path, nn.Module]:
    """A base file, PEFT's folder beside it, and the model that wrote both."""
    torch.manual_seed(5)
    model = Protein(backbone)
    torch.save(model.state_dict(), folder / "model_checkpoint.pt")
    targets = [f"self_attn.{name}" for name in SEVEN[:4]] + [f"mlp.{name}" for name in SEVEN[4:]]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, modules_to_save=["adapter.fc1", "adapter.fc2"])
    peft_model = shaken(peft.PeftModel(model, config))
    with torch.no_grad():
        peft_model.base_model.model.adapter.fc1.modules_to_save["default"].weight.add_(1.0)
    peft_model.save_pretrained(folder / "adapter_checkpoint")
    return folder / "model_checkpoint.pt", folder / "adapter_checkpoint", peft_model


def test_a_base_file_and_an_adapter_with_trained_modules(backbone: Path, tmp_path: Path) -> None:
    base, adapter, peft_model = prot2text(backbone, tmp_path)
    out = unpacked(backbone, tmp_path, "release=prot2text_v2", f"checkpoint={base}", f"adapter={adapter}")
    state = {
        n.replace("base_model.model.llama_decoder.", "llm.base_model.model."): t
        for n, t in peft_model.state_dict().items()
    }
    assert_deltas(out, expected_deltas(state, 2.0))
    projector = load_file(out / "parts" / "projector.safetensors")
    weight = peft_model.base_model.model.adapter.fc1.modules_to_save["default"].weight
    torch.testing.assert_close(projector["fc1.weight"], weight.detach())
    assert projector.keys() == {f"{layer}.{name}" for layer in ("fc1", "fc2", "ln1") for name in ("weight", "bias")}
    table = pd.read_csv(out / "placement.csv")
    rows = table[table["role"] == "replaced"]
    assert set(rows["source"]) == {"checkpoint"} and len(rows) == 4


def test_a_plain_adapter(backbone: Path, tmp_path: Path) -> None:
    adapter = train_adapter(backbone, tmp_path / "cell", ["ALB TTR"], 0)
    out = unpacked(backbone, tmp_path, f"checkpoint={adapter}")
    before, after = load_adapter(adapter, "before"), load_adapter(out, "after")
    assert all(torch.equal(before.modules[m].delta(), after.modules[m].delta()) for m in before.modules)


def test_a_tensor_without_a_place_stops_the_run(backbone: Path, tmp_path: Path) -> None:
    state = {**mol_llama(backbone), "text_proj.weight": torch.ones(2), "gtm_head.bias": torch.ones(2)}
    overrides = ("release=mol_llama", f"checkpoint={lightning(state, tmp_path / 'last.ckpt')}")
    with pytest.raises(AdapterError, match=r"2 tensors that have no place.*\n.*text_proj\.weight\n.*gtm_head\.bias"):
        unpacked(backbone, tmp_path, *overrides)
    assert not (tmp_path / "out").exists()
    out = unpacked(backbone, tmp_path, *overrides, "+release.parts.heads=gtm_head.", "+release.parts.texts=text_proj.")
    assert load_file(out / "parts" / "heads.safetensors").keys() == {"bias"}


def test_another_language_model_is_told_by_its_weights(backbone: Path, tmp_path: Path) -> None:
    state = mol_llama(backbone)
    state["llm.base_model.model.model.layers.1.self_attn.q_proj.base_layer.weight"] += 0.1
    state["llm.base_model.model.model.norm.weight"] += 0.1
    path = lightning(state, tmp_path / "last.ckpt")
    with pytest.raises(
        AdapterError, match=r"layers\.1\.self_attn\.q_proj\.base_layer\.weight has other values"
    ) as refusal:
        unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={path}")
    assert "model.norm.weight has other values" in str(refusal.value)


def test_a_release_on_another_architecture_is_refused_by_name(backbone: Path, tmp_path: Path) -> None:
    qwen = save_backbone(tmp_path / "qwen", "qwen2")
    with pytest.raises(ConfigError, match=r"release=cell_o1 is made on a qwen2, backbone=.* is a llama"):
        unpacked(backbone, tmp_path, "release=cell_o1", f"checkpoint={qwen}")


def test_factors_that_were_folded_in_are_extracted_instead(backbone: Path, tmp_path: Path) -> None:
    torch.save(Protein(backbone).state_dict(), tmp_path / "model.pt")
    with pytest.raises(AdapterError, match=r"holds no LoRA factors.*esmerge extract .*part=llama_decoder\."):
        unpacked(backbone, tmp_path, "release=prot2text_v2", f"checkpoint={tmp_path / 'model.pt'}")


def test_objects_in_a_checkpoint_are_never_built(backbone: Path, tmp_path: Path) -> None:
    path = lightning(mol_llama(backbone), tmp_path / "last.ckpt", hyper_parameters={"model": Config()})
    with pytest.raises(AdapterError, match=r"holds the object .*Config beside tensors.*save its weights alone"):
        unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={path}")


def broken(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ckpt", b"no checkpoint", "cannot be read|holds objects"),
        ("a.pt", pickle.dumps(Config(), protocol=2), "beside tensors|cannot be read"),
        ("a.txt", b"", "neither a folder nor a file that ends in"),
    ],
)
def test_files_that_hold_no_weights(backbone: Path, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        unpacked(backbone, tmp_path, f"checkpoint={broken(tmp_path / name, content)}")


def test_a_file_with_more_than_tensors_is_no_state_dict(backbone: Path, tmp_path: Path) -> None:
    torch.save({"model.weight": torch.ones(2), "epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(AdapterError, match="holds epoch beside tensors"):
        unpacked(backbone, tmp_path, f"checkpoint={tmp_path / 'a.pt'}")


def test_nothing_says_the_scale(backbone: Path, tmp_path: Path) -> None:
    path = lightning(mol_llama(backbone), tmp_path / "last.ckpt")
    with pytest.raises(AdapterError, match="the scale of the LoRA factors is unknown"):
        unpacked(backbone, tmp_path, "release=mol_llama", f"checkpoint={path}", "release.alpha=null")
