from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from esmerge.core.paths import CONF
from esmerge.core.schema import choose, plain
from esmerge.specialists.api import TEAMS, Context
from esmerge.specialists.team import Team
from esmerge.storage.cache import Cache

torch.set_num_threads(1)


def composed(*overrides: str, config: str = "sweep") -> DictConfig:
    """A config as the front door composes it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config, overrides=list(overrides))


def make_team(cache: Path, *overrides: str, seed: int = 0) -> Team:
    """The tiny embedded team, with changes to its config."""
    chosen = choose(TEAMS, plain(composed("specialists=textbook_tiny", *overrides).specialists), "specialists")
    return chosen.entry.function(chosen.settings, Context(seed, Cache(cache)))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for every test of this session: the tiny team is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_team(shared_cache: Path) -> Team:
    """The embedded specialists after a handful of training steps."""
    return make_team(shared_cache)
