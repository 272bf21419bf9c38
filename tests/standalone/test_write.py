"""What a merge leaves at its place: the whole of it, and only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.standalone.conftest import World
from tests.standalone.tiny import TEXTS, train_adapter
from transformers import AutoModelForCausalLM

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.adapters.peft_folder import load_adapter
from esmerge.calibration.api import STATISTICS
from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError, InputError, StoreError
from esmerge.experiment.context import forget_specialists
from esmerge.experiment.standalone import write
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.terminal import show_result
from esmerge.experiment.standalone.write import carry_out, one_scale
from esmerge.merging.api import MERGES
from esmerge.storage import tensor_stream as tensor_file

FORK = multiprocessing.get_context("fork")
IDS = torch.tensor([[5, 40, 41, 42, 60, 61, 7]])
QUICK = ("granularity.projections=8", "probe.samples=2")
Planned = Callable[..., MergePlan]
NEEDS_NOTHING = [
    name for name in MERGES.names() if not (MERGES.get(name).info.needs_probe or MERGES.get(name).info.per_task)
]
MEASURED = [
    name
    for name in MERGES.names()
    if MERGES.get(name).info.needs
    and not any(STATISTICS.get(statistic).info.questions for statistic in MERGES.get(name).info.needs)
]


def logits(backbone: Path, adapter: Path | None = None) -> torch.Tensor:
    model: Any = AutoModelForCausalLM.from_pretrained(backbone)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("name", NEEDS_NOTHING)
def test_merges_without_a_probe_need_no_file_and_no_weights(
    name: str, plan: Planned, llama: World, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("esmerge.specialists.families.custom.family.load_backbone", None)
    result = carry_out(plan(f"method={name}", "probe.file=null"))
    assert result.ranks and (logits(llama.backbone, tmp_path / "out") != logits(llama.backbone)).any()
    exists = (tmp_path / "out" / "coefficients.safetensors").exists()
    assert exists == (name == "inverse_norm"), "coefficients are stored by the merge that has any"


@pytest.mark.parametrize("name", MEASURED)
def test_merges_that_measure_read_the_text_probe(name: str, plan: Planned, tmp_path: Path) -> None:
    settings = compose_choice("method", name)
    quick = [f"method.{key}.steps=2" for key, value in settings.items() if isinstance(value, dict) and "steps" in value]
    assert carry_out(plan(f"method={name}", *QUICK, *quick)).ranks
    assert load_adapter(tmp_path / "out", name).modules


def test_a_baked_model_answers_as_the_adapter_does(plan: Planned, llama: World, tmp_path: Path) -> None:
    carry_out(plan(*QUICK))
    carry_out(plan(*QUICK, "bake=true", f"out={tmp_path / 'baked'}"))
    expected = logits(llama.backbone, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "baked"), expected, rtol=1e-4, atol=1e-4)
    names = {path.name for path in (tmp_path / "baked").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "coefficients.safetensors"} <= names
    assert "library_name: transformers" in (tmp_path / "baked" / "README.md").read_text()


def test_an_expert_that_lacks_modules_counts_as_zero_there(plan: Planned, llama: World, tmp_path: Path) -> None:
    part = train_adapter(llama.backbone, tmp_path / "part", TEXTS["prot"], 1, target_modules=["q_proj"])
    experts = {**llama.experts, "prot": part}
    carry_out(plan(*QUICK, "allow_partial=true", experts=experts))
    merged, expert = load_adapter(tmp_path / "out", "out"), load_adapter(llama.experts["mol"], "mol")
    weights = load_file(tmp_path / "out" / "coefficients.safetensors")
    missing = [module for module in merged.modules if not module.endswith("q_proj")]
    assert len(missing) == 6
    for module in missing:
        for half in "AB":
            key = f"{module}.lora_{half}.weight"
            mol_weight, prot_weight = weights[f"mol.{key}"], weights[f"prot.{key}"]
            torch.testing.assert_close(mol_weight + prot_weight, torch.ones_like(mol_weight))
            torch.testing.assert_close(merged.tensors()[key], mol_weight * expert.tensors()[key])
    assert "prot lacks 6 modules, which count as updates of zero" in (tmp_path / "out" / "README.md").read_text()


def test_an_encoder_of_the_users_stands_where_the_text_stood(
    plan: Planned, llama: World, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "eyes.py").write_text(
        "import torch\n"
        "seen = []\n"
        "def encode(texts):\n"
        "    seen.extend(texts)\n"
        "    return [torch.full((2, 16), len(text) / 10) for text in texts]\n"
        "def crooked(texts):\n"
        "    return [torch.ones(2, 7) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = llama.experts["mol"]
    carry_out(plan(*QUICK, f"experts.mol={{path: {path}, encoder: eyes:encode}}"))
    import eyes  # type: ignore[import-not-found]

    assert set(eyes.seen) == {"CCO", "c1ccccc1O"}
    carry_out(plan(*QUICK, f"out={tmp_path / 'text'}"))
    first, second = (load_file(tmp_path / name / "coefficients.safetensors")["mol.layer"] for name in ("out", "text"))
    assert not torch.equal(first, second)
    with pytest.raises(InputError, match=r"eyes:crooked of 'mol' made \(2, 7\) of 'CCO': expected \(tokens, 16\)"):
        carry_out(plan(*QUICK, f"experts.mol={{path: {path}, encoder: eyes:crooked}}", f"out={tmp_path / 'no'}"))
    assert not (tmp_path / "no").exists()


def test_an_encoder_whose_weights_changed_is_asked_again(
    plan: Planned, llama: World, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "weighted.py").write_text(
        "from pathlib import Path\n"
        "import torch\n"
        "def encode(texts):\n"
        "    weight = float(Path(__file__).with_name('weight').read_text())\n"
        "    return [torch.arange(16.0).sin()[None] * weight * len(text) for text in texts]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = (*QUICK, f"experts.mol={{path: {llama.experts['mol']}, encoder: weighted:encode}}")

    def coefficients(name: str, *more: str) -> torch.Tensor:
        carry_out(plan(*words, f"out={tmp_path / name}", *more))
        return load_file(tmp_path / name / "coefficients.safetensors")["mol.layer"]

    results = []
    for number, weight in enumerate(("0.1", "3.0")):
        (tmp_path / "weight").write_text(weight)
        kept = [coefficients(f"{turn}{number}", f"cache={tmp_path / 'cache'}") for turn in ("first", "again")]
        assert torch.equal(kept[0], coefficients(f"fresh{number}")) and torch.equal(*kept)
        results.append(kept[0])
    assert not torch.equal(*results)


def test_a_start_token_that_changed_makes_other_prompts(plan: Planned, llama: World, tmp_path: Path) -> None:
    backbone = shutil.copytree(llama.backbone, tmp_path / "other")
    words = (*QUICK, f"backbone={backbone}", "allow_other_base=true", f"cache={tmp_path / 'cache'}")
    results = []
    for name, start in (("first", "<bos>"), ("second", None)):
        config = json.loads((backbone / "tokenizer_config.json").read_text())
        (backbone / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": start}))
        forget_specialists()  # as in another process
        carry_out(plan(*words, f"out={tmp_path / name}"))
        results.append(load_file(tmp_path / name / "coefficients.safetensors")["mol.layer"])
    assert not torch.equal(*results)
    (backbone / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<start>"}))
    forget_specialists()
    with pytest.raises(ConfigError, match="begins a prompt with '<start>', token 330, and there are embeddings of 330"):
        carry_out(plan(*words, f"out={tmp_path / 'third'}"))


def test_what_is_peculiar_about_an_adapters_folder_is_said(plan: Planned, llama: World, tmp_path: Path) -> None:
    other = shutil.copytree(llama.experts["prot"], tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "use_spectral_lora": True, "future": None}))
    for name in ("non_lora_trainables.bin", "optimizer.pt", "training_args.bin"):
        (other / name).write_bytes(b"")
    expected = ["settings that are not known here: use_spectral_lora=True", "leaves out: non_lora_trainables.bin"]
    merge_plan = plan(experts={**llama.experts, "prot": other})
    told = [remark for name, remark in merge_plan.remarks() if name == "prot"]
    assert len(told) == 2 and all(part in remark for part, remark in zip(expected, told, strict=True)), told
    assert not [remark for name, remark in merge_plan.remarks() if name == "mol"]


def test_one_adapter_given_to_two_experts_is_warned_of(plan: Planned, llama: World) -> None:
    with pytest.warns(UserWarning, match="experts mol and prot are one adapter, .*: is one of the paths wrong?"):
        plan(experts={"mol": llama.experts["mol"], "prot": llama.experts["mol"]})


def test_the_card_says_what_was_merged(plan: Planned, llama: World, tmp_path: Path) -> None:
    carry_out(plan(*QUICK))
    card = (tmp_path / "out" / "README.md").read_text()
    for path in (*(folder / "adapter_model.safetensors" for folder in llama.experts.values()), llama.probe):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert card.count("---\n") == 2, "one front matter"
    for part in ("ES-Merging of mol, prot", "arXiv 2603.14405", "ranks: 4 (9 modules)", "coefficients.png", "torch 2"):
        assert part in card
    assert "method.rank" not in card


def test_one_lora_scale_for_loaders_that_read_no_patterns() -> None:
    modules = {
        f"base_model.model.layers.{i}.q": LoraFactors(torch.randn(2, 3), torch.randn(4, 2), 0.5 + i) for i in range(3)
    }
    state = LoraState(modules)
    rescaled = one_scale(state)
    assert {factors.scale for factors in rescaled.modules.values()} == {0.5}
    for module, factors in rescaled.modules.items():
        torch.testing.assert_close(factors.delta(), state.modules[module].delta())


def test_signals_are_kept_where_a_cache_is_named(plan: Planned, tmp_path: Path, monkeypatch: Any) -> None:
    cache = f"cache={tmp_path / 'kept'}"
    carry_out(plan(*QUICK, cache))
    assert any((tmp_path / "kept" / "signals").iterdir())
    monkeypatch.setattr("esmerge.probe.stored.record", None)  # calling it would fail
    carry_out(plan(*QUICK, cache, "granularity.temperature=2", f"out={tmp_path / 'again'}"))


@pytest.mark.parametrize("place", ["weights", "config", "figure"])
@pytest.mark.parametrize("bake", [False, True])
def test_a_full_disk_leaves_nothing(bake: bool, place: str, plan: Planned, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ready = plan(*QUICK, f"bake={bake}", f"out={tmp_path / 'place' / 'out'}")
    if place == "figure":
        monkeypatch.setattr(write, "write_layer_map", full)
    elif place == "weights":
        monkeypatch.setattr(tensor_file.os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match="could not be written .*No space left on device.*: nothing is left of it"):
        carry_out(ready)
    monkeypatch.undo()
    assert list((tmp_path / "place").iterdir()) == []


def test_an_old_merge_stays_until_the_new_one_is_whole(plan: Planned, tmp_path: Path, monkeypatch: Any) -> None:
    carry_out(plan("method=average"))
    before = load_adapter(tmp_path / "out", "out").tensors()
    ready = plan("method=task_arithmetic", "overwrite=true")
    monkeypatch.setattr(write, "merge_card", None)
    with pytest.raises(TypeError):
        carry_out(ready)
    monkeypatch.undo()
    after = load_adapter(tmp_path / "out", "out").tensors()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    carry_out(ready)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_merge_killed_at_any_moment_leaves_a_whole_adapter_or_none(plan: Planned, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # a forked child has no other threads
    out, moments = tmp_path / "place" / "out", random.Random(0)
    ready = plan("method=average", f"out={out}")
    clock = time.perf_counter()
    carry_out(plan("method=average"))
    duration, survivors = time.perf_counter() - clock, 0
    for _ in range(20):
        merging = FORK.Process(target=carry_out, args=(ready,))
        merging.start()
        time.sleep(moments.uniform(0, 1.5 * duration))
        os.kill(merging.pid, signal.SIGKILL)
        merging.join()
        if out.exists():
            survivors += 1
            assert {path.name for path in out.iterdir()} == {
                "adapter_model.safetensors",
                "adapter_config.json",
                "README.md",
            }
            assert len(load_adapter(out, "out").modules) == 9 and json.loads((out / "adapter_config.json").read_text())
    carry_out(ready)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert survivors > 0


@pytest.mark.parametrize(("rank", "cut"), [("exact", False), ("1", True)])
def test_the_screen_says_what_a_truncation_cuts_off(plan: Planned, tmp_path: Path, rank: str, cut: bool) -> None:
    ready = plan("method=ties", f"method.rank={rank}", f"out={tmp_path / 'out'}")
    result, screen = carry_out(ready), Console(record=True, width=200)
    show_result(ready, result, screen)
    assert ("% of the update (its norm) is cut off" in screen.export_text()) is cut
    assert (0.01 < result.lost < 1) if cut else result.lost < 1e-5
