"""A job's config: composed as a launcher composes it, and what is wrong with it in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from esmerge.cli.composing import in_words
from esmerge.core.errors import BenchError


def compose_job(config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """A job's config as a launcher composes it.

    Args:
        config: of the multirun.
        number: of the job.
    """
    job_config = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
    with open_dict(job_config):
        job_config.hydra.job.id = job_config.hydra.job.num = number
    return job_config


def without_hydra(config: DictConfig) -> DictConfig:
    """A composed config without Hydra's own node, as a job sees it."""
    job_config = config.copy()
    with open_dict(job_config):
        del job_config["hydra"]
    return job_config


@contextmanager
def hydra_config(config: DictConfig) -> Iterator[None]:
    """Let ``HydraConfig`` say for a while what it says inside a job with this config."""
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(config)
    try:
        yield
    finally:
        instance.cfg = before


def explain(error: Exception) -> str:
    """An error in one line; those that are not raised on purpose with their type."""
    if isinstance(error, HydraException) and (message := in_words(error)):
        return message
    text = " ".join(str(error).split())
    return text if isinstance(error, BenchError) else f"{type(error).__name__}: {text}"


def uncomposable(error: HydraException, words: Sequence[str]) -> str:
    """Why overrides cannot be composed, in one line: a setting is named by the error, a choice by its cause."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return in_words(error, words) or explain(cause)
