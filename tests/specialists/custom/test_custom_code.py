"""Backbones with code of their own: run when that is said, never asked about in between."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import composed
from tests.standalone.tiny import command, save_backbone, train_experts, write_probe

import esmerge.cli.merge
from esmerge.cli.overrides import with_paths
from esmerge.core.errors import ConfigError
from esmerge.experiment.context import forget_specialists
from esmerge.experiment.standalone.plan import plan_merge
from esmerge.experiment.standalone.request import read_request
from esmerge.specialists.families.custom.backbone import skeleton

CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig

Path(__file__).with_name("executed").touch()

class OtherConfig(LlamaConfig):
    model_type = "other-llama"
"""
MODELING = """
from transformers import LlamaForCausalLM
from .configuration_other import OtherConfig

class OtherForCausalLM(LlamaForCausalLM):
    config_class = OtherConfig
"""
QUICK = ("granularity.projections=8", "allow_other_base=true")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A merge on a Llama whose classes come with it; a question to the user fails the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question was asked"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    plain = save_backbone(tmp_path / "plain")
    experts, probe = train_experts(plain, tmp_path), write_probe(tmp_path / "probe.jsonl")
    folder = plain.rename(tmp_path / "backbone")
    config = json.loads((folder / "config.json").read_text())
    classes = {
        "AutoConfig": "configuration_other.OtherConfig",
        "AutoModelForCausalLM": "modeling_other.OtherForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "other-llama", "auto_map": classes}))
    (folder / "configuration_other.py").write_text(CONFIGURATION)
    (folder / "modeling_other.py").write_text(MODELING)
    return command(folder, experts, tmp_path / "out", probe, *QUICK)


@pytest.fixture
def merge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The front door in this process."""

    def called(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["merge", *arguments])
        esmerge.cli.merge.main()

    return called


def test_code_that_is_not_trusted_is_not_run(arguments: list[str], merge: Callable, tmp_path: Path) -> None:
    for more in ((), ("backbone.trust_remote_code=false",)):
        with pytest.raises(
            SystemExit, match="brings code of its own.*: read its .py files, then say backbone.trust_rem"
        ):
            merge(*arguments, *more)
    assert not list(tmp_path.rglob("executed")) and not (tmp_path / "out").exists()


def test_trusted_code_is_run(arguments: list[str], merge: Callable, tmp_path: Path) -> None:
    merge(*arguments, "backbone.trust_remote_code=true")
    assert load_file(tmp_path / "out" / "coefficients.safetensors")["mol.layer"].shape == (3,)
    baked = f"out={tmp_path / 'baked'}"
    merge(*arguments, "backbone.trust_remote_code=true", "bake=true", baked, "overwrite=true")
    assert (tmp_path / "baked" / "modeling_other.py").read_text() == MODELING


def test_code_that_fails_is_named(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "backbone" / "configuration_other.py").write_text("raise RuntimeError('made for another version')")
    with pytest.raises(
        ConfigError, match="its own code failed .RuntimeError: made for another version.*transformers than 5"
    ):
        skeleton(str(tmp_path / "backbone"), trusted=True)


@pytest.mark.parametrize(
    ("backbone", "path", "trusted"),
    [
        (["backbone=a"], "a", False),
        (["backbone.path=a"], "a", False),
        (["backbone=a", "backbone.trust_remote_code=true"], "a", True),
        (["backbone.trust_remote_code=true", "backbone=a"], "a", True),
        (["backbone={path: a, trust_remote_code: true}"], "a", True),
        (["backbone={path: a}", "backbone.trust_remote_code=true"], "a", True),
    ],
)
@pytest.mark.parametrize("sweep", [False, True])
def test_ways_to_say_it(backbone: list[str], path: str, trusted: bool, sweep: bool) -> None:
    if sweep:
        overrides = with_paths(f"specialists.{argument}" for argument in backbone)
        node = composed("specialists=custom", *overrides).specialists.backbone
    else:
        node = composed(*with_paths(backbone), config="merge").backbone
    source = {"path": node} if isinstance(node, str) else node
    assert (source["path"], source.get("trust_remote_code", False)) == (path, trusted)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("{path: a, trust: true}", "backbone.trust is not a setting: expected one of path, trust_remote_code"),
        ("{path: a, trust_remote_code: perhaps}", "expected a folder or hub id, or {path: FOLDER"),
        ("{trust_remote_code: true}", "backbone is not set"),
    ],
)
def test_what_it_may_not_be(backbone: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_request(composed(f"+backbone={backbone}", "experts={a: b, c: d}", "out=o", config="merge"))


def test_a_plan_says_what_it_runs_on(arguments: list[str], tmp_path: Path) -> None:
    plan = plan_merge(
        read_request(composed(*with_paths([*arguments, "backbone.trust_remote_code=true"]), config="merge"))
    )
    assert plan.depth == 3 and plan.backbone == str(tmp_path / "backbone") and torch.is_grad_enabled()


HOOKED = """
    def __init__(self, config):
        super().__init__(config)
        self.model.layers[1].register_forward_pre_hook(lambda layer, inputs: (inputs[0].tanh(), *inputs[1:]))
"""


def test_other_code_around_the_same_weights_is_another_backbone(
    arguments: list[str], merge: Callable, tmp_path: Path
) -> None:
    words = [*arguments, "backbone.trust_remote_code=true", f"cache={tmp_path / 'cache'}", "overwrite=true"]
    results = []
    for code in (MODELING, MODELING + HOOKED):
        (tmp_path / "backbone" / "modeling_other.py").write_text(code)
        for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
            del sys.modules[name]  # as in another process
        forget_specialists()
        merge(*words)
        results.append(load_file(tmp_path / "out" / "coefficients.safetensors")["mol.layer"])
    assert not torch.equal(*results)
