from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import composed
from tests.standalone.tiny import command, save_backbone, train_experts, write_probe

import esmerge.cli.common  # noqa: F401 (says which names a config may add)
from esmerge.experiment.standalone.plan import MergePlan, plan_merge
from esmerge.experiment.standalone.request import StandaloneRequest, read_request


@dataclass(frozen=True)
class World:
    """A backbone, two experts and a probe on disk."""

    backbone: Path
    experts: dict[str, Path]
    probe: Path


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("llama")
    backbone = save_backbone(root / "backbone")
    return World(backbone, train_experts(backbone, root), write_probe(root / "probe.jsonl"))


Asking = Callable[..., StandaloneRequest]


@pytest.fixture
def ask(llama: World, tmp_path: Path) -> Asking:
    """A request as the front door reads it; experts, probe and backbone may be others."""

    def request_of(
        *overrides: str, experts: dict[str, Path] | None = None, probe: Path | None = None
    ) -> StandaloneRequest:
        arguments = command(
            llama.backbone, experts or llama.experts, tmp_path / "out", probe or llama.probe, *overrides
        )
        return read_request(composed(*arguments, config="merge"))

    return request_of


@pytest.fixture
def plan(ask: Asking) -> Callable[..., MergePlan]:
    """A plan of what ``ask`` reads."""
    return lambda *overrides, **other: plan_merge(ask(*overrides, **other))
