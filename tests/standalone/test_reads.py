"""How often a merge of adapters on disk reads them, counted at the library that reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import load_file
from tests.standalone.conftest import World
from tests.standalone.test_refusals import FIRST, with_tensors

from esmerge.adapters import peft_files, reader
from esmerge.core.errors import AdapterError
from esmerge.experiment.standalone import card
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.terminal import show_plan
from esmerge.experiment.standalone.write import carry_out

Planned = Callable[..., MergePlan]


class Reads:
    """What was asked of the library: (adapter, tensor) -> times it was read, adapter -> times its file was opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tensors: Counter[tuple[str, str]] = Counter()
        self.opened: Counter[str] = Counter()
        self.hashed: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.most_held = 0
        monkeypatch.setattr(reader, "safe_open", self.open)
        monkeypatch.setattr(peft_files, "safe_open", self.open)
        original = card.file_sha256

        def sha256(path: Path) -> str:
            self.hashed[path.parent.name] += 1
            return original(path)

        monkeypatch.setattr(card, "file_sha256", sha256)

    def open(self, path: Path, framework: str) -> Any:
        reads = self

        class File:
            def __enter__(self) -> Any:
                self.name, self.inner = path.parent.name, safetensors.safe_open(path, framework=framework)
                reads.opened[self.name] += 1
                reads.held[self.name] += 1
                reads.most_held = max(reads.most_held, *reads.held.values())
                return self

            def __exit__(self, *error: Any) -> None:
                reads.held[self.name] -= 1
                self.inner.__exit__(*error)

            def keys(self) -> list[str]:
                return list(self.inner.keys())

            def get_tensor(self, name: str) -> torch.Tensor:
                reads.tensors[self.name, name] += 1
                return self.inner.get_tensor(name)

            def get_slice(self, name: str) -> Any:
                part = self.inner.get_slice(name)  # of which a header takes no numbers
                return type(
                    "Header", (), {"get_shape": lambda _: part.get_shape(), "get_dtype": lambda _: part.get_dtype()}
                )()

        return File()


def counted(plan: Planned, llama: World, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Reads:
    """A whole merge: all tensors of all experts are read equally often, by one handle at a time, closed at the end."""
    reads = Reads(monkeypatch)
    ready = plan(*overrides, "probe.file=null")
    show_plan(ready)
    assert not reads.tensors, "a plan reads headers"
    carry_out(ready)
    names = {
        (name, key) for name, path in llama.experts.items() for key in load_file(path / "adapter_model.safetensors")
    }
    assert set(reads.tensors) == names and len(names) == 36
    assert reads.opened == dict.fromkeys(llama.experts, 2), "once for the header, once for the merge"
    assert reads.most_held == 1 and not any(reads.held.values())
    return reads


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_an_average_reads_each_adapter_twice_its_hash_included(
    space: str, plan: Planned, llama: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = counted(plan, llama, monkeypatch, "method=average", f"merge_space={space}")
    assert set(reads.tensors.values()) == {1}
    assert all(reads.hashed[name] == 1 for name in llama.experts)


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("robust_merge", 1),
        ("task_arithmetic", 1),
        ("iso_c", 1),
        ("dare", 1),
        ("pico", 1),
        ("random", 1),
        ("inverse_norm", 2),  # one for the norms
        ("ties", 3),  # two find the trim over the whole adapter
        ("pcb", 5),  # two for the range of magnitudes, two for that of scores
    ],
)
def test_other_merges_read_what_they_need(
    name: str, passes: int, plan: Planned, llama: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = counted(plan, llama, monkeypatch, f"method={name}")
    assert set(reads.tensors.values()) == {passes}


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_experts_that_are_not_finite_leave_nothing(space: str, plan: Planned, llama: World, tmp_path: Path) -> None:
    bad = with_tensors(
        llama.experts["prot"], tmp_path / "bad", **{f"{FIRST}.lora_B.weight": torch.full((16, 4), torch.inf)}
    )
    ready = plan("method=average", f"merge_space={space}", experts={**llama.experts, "prot": bad})
    with pytest.raises(AdapterError, match=f"'prot' holds NaN or infinite values in {FIRST}.lora_B.weight: retrain"):
        carry_out(ready)
    assert not (tmp_path / "out").exists()
