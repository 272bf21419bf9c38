from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from esmerge.core.paths import CONF
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.custom.settings import open_experts_node
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import Cache
from esmerge.tasks.api import BenchmarkRequest

torch.set_num_threads(1)
hypothesis.settings.register_profile("untimed", deadline=None)  # beside other work an example may take its time
hypothesis.settings.load_profile("untimed")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as it is in pytest-xdist; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
open_experts_node()  # as the front doors do


def composed(*overrides: str, config: str = "sweep", return_hydra_config: bool = False) -> DictConfig:
    """A config as the front door composes it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, overrides=list(overrides), return_hydra_config=return_hydra_config)


def make_specialists(cache: Path, *overrides: str, seed: int = 0) -> Specialists:
    """The tiny embedded specialists, with changes to its config."""
    selection = choose(SPECIALISTS, plain(composed("specialists=textbook_tiny", *overrides).specialists), "specialists")
    return selection.entry.function(selection.settings, Context(seed, Cache(cache)))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for every test of this session: the tiny specialists are trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_specialists(shared_cache: Path) -> Specialists:
    """The embedded specialists after a handful of training steps."""
    return make_specialists(shared_cache)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a table under the test's root."""

    def writer(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return writer


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., BenchmarkRequest]:
    """A request on the test's root."""

    def asker(**changes: Any) -> BenchmarkRequest:
        return BenchmarkRequest(**{"name": "toy", "language": "english", "seed": 0, "root": str(tmp_path), **changes})

    return asker
