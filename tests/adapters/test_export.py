"""Baked folders: transformers loads them, and they answer as the backbone does with the update attached."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests import small
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from esmerge.adapters import export as baking
from esmerge.adapters.dense import DenseState
from esmerge.adapters.export import INDEX, SINGLE, bake
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.adapters.peft_folder import save_adapter
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping
from esmerge.model.attach import PREFIX

IDS = torch.tensor([[2, 3, 6, 5, 7, 9], [2, 5, 6, 1, 8, 10]])
UP = "model.layers.0.mlp.up_proj"


def save_backbone(folder: Path, dtype: torch.dtype = torch.float32, shard: str = "1GB", tied: bool = False) -> Path:
    """A random Llama of two layers with a generation config, a tokenizer and what else such folders hold."""
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        bos_token_id=2,
        eos_token_id=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).to(dtype).save_pretrained(folder, max_shard_size=shard)
    small.tokenizer().save_pretrained(folder)
    (folder / "LICENSE").write_text("free")
    (folder / "README.md").write_text("the backbone's card")
    (folder / ".gitattributes").write_text("hidden")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ messages }}")
    return folder


def load(folder: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits.float()


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    named_modules = model.named_modules()
    return {path: layer for path, layer in named_modules if isinstance(layer, nn.Linear) and path != "lm_head"}


def adapter(folder: Path) -> LoraState:
    """Random factors for every linear layer, of different ranks and scales."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    return LoraState(
        {
            PREFIX + path: LoraFactors(draw(r, layer.in_features), draw(layer.out_features, r), 0.5 * r)
            for r, (path, layer) in enumerate(linear_layers(load(folder)).items(), start=1)
        },
        "org/backbone",
        {"merge": "average"},
    )


def dense(folder: Path) -> DenseState:
    """Random updates of full rank for every linear layer."""
    generator = torch.Generator().manual_seed(2)
    shapes = {PREFIX + path: layer.weight.shape for path, layer in linear_layers(load(folder)).items()}
    return DenseState({module: 0.1 * torch.randn(shape, generator=generator) for module, shape in shapes.items()})


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    return save_backbone(tmp_path / "backbone")


@pytest.mark.parametrize("shard", ["1GB", "1KB"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_baked_adapter_gives_the_logits_that_peft_gives(tmp_path: Path, shard: str, tied: bool) -> None:
    backbone = save_backbone(tmp_path / "backbone", shard=shard, tied=tied)
    assert (backbone / INDEX).exists() == (shard == "1KB")
    state = adapter(backbone)
    save_adapter(state, tmp_path / "adapter")
    bake(backbone, state, tmp_path / "out")
    baked_logits = logits(load(tmp_path / "out"))
    assert torch.allclose(
        baked_logits, logits(PeftModel.from_pretrained(load(backbone), tmp_path / "adapter")), atol=1e-5
    )
    assert not torch.allclose(baked_logits, logits(load(backbone)), atol=1e-2)
    for file in ("config.json", "generation_config.json", *([INDEX] if shard == "1KB" else [])):
        assert json.loads((tmp_path / "out" / file).read_text()) == json.loads((backbone / file).read_text())


@pytest.mark.parametrize("shard", ["1GB", "1KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_baked_dense_updates_are_the_weights_plus_the_updates(tmp_path: Path, shard: str, dtype: torch.dtype) -> None:
    backbone = save_backbone(tmp_path / "backbone", dtype, shard)
    state = dense(backbone)
    bake(backbone, state, tmp_path / "out")
    before, after = load(backbone).state_dict(), load(tmp_path / "out").state_dict()
    assert list(before) == list(after)
    for name, weight in before.items():
        update = state.modules.get(PREFIX + name.removesuffix(".weight"), torch.zeros(()))
        assert after[name].dtype == dtype and torch.equal(after[name], (weight.float() + update).to(dtype))


def test_what_is_baked_is_what_the_resident_backbone_would_have(tmp_path: Path) -> None:
    body = small.backbone()
    body.model.to(torch.bfloat16).save_pretrained(tmp_path / "backbone")
    modules = {PREFIX + path: 0.1 * torch.ones(layer.weight.shape) for path, layer in small.linear_layers(body).items()}
    bake(tmp_path / "backbone", DenseState(modules), tmp_path / "out")
    with body.attached({"update": DenseState(modules)}) as activate:
        activate("update")
        resident = {path: layer.weight for path, layer in small.linear_layers(body).items()}
        baked = load(tmp_path / "out")
        assert all(torch.equal(baked.get_submodule(path).weight, weight) for path, weight in resident.items())


def test_another_dtype_is_written_and_said(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", torch.float32, "1KB")
    state = dense(backbone)
    bake(backbone, state, tmp_path / "out", torch.bfloat16)
    model = load(tmp_path / "out")
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.bfloat16}
    total = load(backbone).get_submodule(UP).weight + state.modules[PREFIX + UP]
    assert torch.equal(model.get_submodule(UP).weight, total.bfloat16())
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(weight.nbytes for weight in model.state_dict().values())


def test_the_rest_of_the_folder_comes_along_and_gets_a_card_of_its_own(tmp_path: Path, backbone: Path) -> None:
    bake(backbone, adapter(backbone), tmp_path / "deep" / "out")
    out = tmp_path / "deep" / "out"
    files = {path.relative_to(backbone) for path in backbone.rglob("*") if path.is_file()}
    files -= {Path(".gitattributes"), Path("training_args.bin")}
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == files
    assert (out / "tokenizer.json").read_bytes() == (backbone / "tokenizer.json").read_bytes()
    card = (out / "README.md").read_text()
    assert 'base_model: "org/backbone"' in card and "- merge: average" in card and "the backbone's card" not in card


def test_one_update_and_one_shard_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = save_backbone(tmp_path / "backbone", shard="1KB")
    state, events = dense(backbone), []

    def compute(module: str) -> Tensor:
        events.append(module)
        return state.modules[module]

    def save(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
        events.append(file.name)
        save_file(tensors, file, metadata)

    monkeypatch.setattr(baking, "save_file", save)
    bake(backbone, DenseState(LazyMapping(list(state.modules), compute)), tmp_path / "out")
    places = json.loads((backbone / INDEX).read_text())["weight_map"]
    assert sorted(event for event in events if event in state.modules) == sorted(state.modules), "each exactly once"
    for place, event in enumerate(events):
        if event in state.modules:  # no other shard is written between an update and the shard it belongs to
            shard = places[event.removeprefix(PREFIX) + ".weight"]
            assert next(later_event for later_event in events[place:] if later_event not in state.modules) == shard


def refused(backbone: Path, update: LoraState | DenseState, message: str) -> None:
    """The bake fails with the message and leaves nothing behind."""
    siblings = sorted(backbone.parent.iterdir())
    with pytest.raises(AdapterError, match=message):
        bake(backbone, update, backbone.parent / "out")
    assert sorted(backbone.parent.iterdir()) == siblings


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def drop_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def drop_weights(folder: Path) -> None:
    (folder / SINGLE).unlink()
    (folder / "training_args.bin").unlink()


def pickle_weights(folder: Path) -> None:
    drop_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")


def break_weights(folder: Path) -> None:
    (folder / SINGLE).write_bytes(b"not safetensors")


def quantise(folder: Path) -> None:
    tensors = load_file(folder / SINGLE)
    tensors[f"{UP}.weight"] = tensors[f"{UP}.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, folder / SINGLE, {"format": "pt"})


def overflow(folder: Path) -> None:
    tensors = {name: tensor.half() for name, tensor in load_file(folder / SINGLE).items()}
    tensors[f"{UP}.weight"] = torch.full_like(tensors[f"{UP}.weight"], 65504)
    save_file({**tensors}, folder / SINGLE, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_config, "config.json does not exist: expected the Hugging Face folder"),
        (break_config, "config.json is not valid JSON"),
        (drop_weights, f"holds neither {SINGLE} nor {INDEX}$"),
        (pickle_weights, "pytorch_model.bin is a pickle, save it again with safe_serialization=True"),
        (break_weights, f"{SINGLE} cannot be read as safetensors"),
        (quantise, rf"holds quantised weights, {UP}.weight \(F8_E4M3\)"),
        (lambda f: edit(f / "config.json", quantization_config={"quant_method": "gptq"}), "is quantised .gptq."),
        (lambda f: edit(f / "config.json", model_type="gpt2"), "is a gpt2, which stores its weights transposed"),
    ],
    ids=["config", "json", "weights", "pickle", "broken", "fp8", "gptq", "transposed"],
)
def test_unfit_checkpoints_are_refused(backbone: Path, damage: Callable[[Path], None], message: str) -> None:
    state = adapter(backbone)
    damage(backbone)
    refused(backbone, state, message)


def test_a_sum_that_overflows_is_refused(backbone: Path) -> None:
    overflow(backbone)
    update = DenseState({PREFIX + UP: torch.full((12, 8), 100.0)})
    refused(backbone, update, f"{UP}.weight is not finite in torch.float16: bake in a wider dtype")


def test_incomplete_shards_are_refused(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", shard="1KB")
    state = adapter(backbone)
    index = json.loads((backbone / INDEX).read_text())
    first = index["weight_map"]["lm_head.weight"]
    edit(backbone / INDEX, weight_map={**index["weight_map"], "stray.weight": first})
    refused(backbone, state, "the shards lack stray.weight, which")
    edit(backbone / INDEX, weight_map={"lm_head.weight": f"../backbone/{first}"})
    refused(backbone, state, f"lacks the shards ../backbone/{first}")
    edit(backbone / INDEX, weight_map={})
    refused(backbone, state, "lacks the shards .none is listed.")
    edit(backbone / INDEX, weight_map=index["weight_map"])
    (backbone / first).unlink()
    refused(backbone, state, f"lacks the shards {first} of its {INDEX}")


def test_a_module_without_weights_in_the_checkpoint_is_refused(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", tied=True)
    for module in (f"{PREFIX}model.layers.7.mlp.up_proj", f"{PREFIX}lm_head", UP):  # tied heads are not stored
        refused(backbone, DenseState({module: torch.zeros(12, 8)}), f"has no weights for {module}: is the update of")


def test_updates_of_another_shape_are_refused(backbone: Path) -> None:
    message = r"up_proj: the update is \(12, 9\), the weight \(12, 8\)"
    refused(backbone, DenseState({PREFIX + UP: torch.zeros(12, 9)}), message)
    factors = LoraFactors(torch.zeros(2, 9), torch.zeros(12, 2), 1.0)
    refused(backbone, LoraState({PREFIX + UP: factors}), message)


def test_an_out_folder_must_be_new_or_empty(tmp_path: Path, backbone: Path) -> None:
    state = adapter(backbone)
    out = tmp_path / "out"
    out.mkdir()
    bake(backbone, state, out)
    for target in (out, backbone, backbone / "config.json"):
        with pytest.raises(AdapterError, match="exists and is not an empty folder: bake into a new one"):
            bake(backbone, state, target)
    shutil.rmtree(out)


def test_an_interrupted_bake_leaves_nothing(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", shard="1KB")
    state = dense(backbone)
    last = list(state.modules)[-1]

    def compute(module: str) -> Tensor:
        if module == last:
            raise KeyboardInterrupt
        return state.modules[module]

    with pytest.raises(KeyboardInterrupt):
        bake(backbone, DenseState(LazyMapping(list(state.modules), compute)), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["backbone"]
