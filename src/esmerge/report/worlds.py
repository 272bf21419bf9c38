"""A world: runs that were asked the same questions by specialists of one family. Nothing is ranked across worlds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

VALIDATION_LIMIT = "benchmark.validation_limit"
SAME_QUESTIONS = (  # settings of benchmarks with which the questions, their ids and their answers stay the same
    *("title", "family", "prompt", "shots", "shot_choice", "shot_separator", "perceive", "listed"),  # how it is asked
    *("training", "train_limit", "max_rejects", "sha256"),  # what is learnt from, and whether a table is accepted
)
OTHER_QUESTIONS = ("benchmark.", "specialists.world.")  # begin all others, those that a package of one's own has too
SPLIT, TEST, VALIDATION = "split", "test", "validation"  # of a sweep: stored where it is not the test split
LANGUAGE = "specialists.language"
WHOLE = "benchmark.source"  # stored by ``benchmark=NAME``, whose whole config a run holds; a suite's holds what it sets
Config = Mapping[str, str]
"""Dotted name of a setting -> its value as text."""


class Worlds:
    """The worlds of a sweep.

    Args:
        results: the rows of ``results.csv``.
        configs: run -> its settings.

    Attributes:
        settings: those that tell worlds apart.
    """

    def __init__(self, results: pd.DataFrame, configs: Mapping[str, Config]) -> None:
        runs = results.drop_duplicates("run")
        self._configs = configs
        self._families = dict(zip(runs["run"], runs["specialists"], strict=True))
        self._several_families = len(set(self._families.values()) - {""}) > 1
        together = ["specialists", "benchmark"] if self._several_families else ["benchmark"]
        # runs that would be ranked together
        groups = [list(names.unique()) for _, names in results.groupby(together)["run"]]
        self._benchmarks = results.groupby("run")["benchmark"].first().to_dict()
        self._two_forms = any(len({WHOLE in configs[name] for name in names}) > 1 for names in groups)
        self.settings = [key for key in _candidates(configs) if any(_differs(key, names, configs) for names in groups)]

    def heading(self, run: str) -> str:
        """What tells a run's world from the others: its specialists and settings; empty if there is one world."""
        config, texts = self._configs[run], []
        if self._several_families:
            texts.append(self._families[run] or "no specialists")
        if self._two_forms:
            texts.append(f"benchmark={self._benchmarks[run]}" if WHOLE in config else "suite")
        texts += [f"{key}={value}" for key in self.settings if (value := setting(config, key)) is not None]
        return ", ".join(texts)


def setting(config: Config, key: str) -> str | None:
    """A setting's value; None where the run does not say, since another of its files decides."""
    return config.get(key, TEST if key == SPLIT else None)


def _candidates(configs: Mapping[str, Config]) -> list[str]:
    """The settings that may change which questions are asked."""
    keys = {key for config in configs.values() for key in config}
    on_validation = any(config.get(SPLIT) == VALIDATION for config in configs.values())
    return sorted(
        key
        for key in keys
        if key in (SPLIT, LANGUAGE)
        or (key.startswith(OTHER_QUESTIONS) and key.split(".")[1] not in SAME_QUESTIONS)
        and (on_validation or key != VALIDATION_LIMIT)
    )


def _differs(key: str, runs: list[str], configs: Mapping[str, Config]) -> bool:
    return len({setting(configs[run], key) for run in runs} - {None}) > 1
