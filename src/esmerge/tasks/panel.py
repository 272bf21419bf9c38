"""Panels: questions on real labels that neither side alone can answer.

Every molecule stands in as many questions with the answer yes as with the answer no, and so does every partner, so that
a reader of one side is right in half of them (``esmerge.data.matching``). In the text form a side is named or described
in words in place of the entity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.validation import at_least
from esmerge.data.matching import matched_rows
from esmerge.data.splits import SIDES
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.assemble import SplitSettings, assemble_benchmark, entity_column_names

PERCEIVE = {"both": (), "molecule": (1,), "partner": (0,), "none": (0, 1)}  # -> the sides that are given in words
TRAINING = ("matched", "every")
ENGLISH = "english"


@dataclass(frozen=True, kw_only=True)
class PanelSettings(SplitSettings):
    """Settings of every panel.

    Attributes:
        perceive: the sides that are perceived entities, ``both``, ``molecule`` (the first), ``partner`` (the second) or
            ``none``; the others are named or described in words.
        training: ``matched``: training questions are chosen like those of the test. ``every``: all labels that there
            are, whose answers one side alone predicts in part; what classical models learn from.
        pairs: a molecule stands in at most so many questions with either answer; null for no bound.
        partner_pairs: the same for a partner.
    """

    perceive: str = "both"
    training: str = "matched"
    pairs: int | None = 1
    partner_pairs: int | None = None
    split: str = "cold_drug"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("perceive", tuple(PERCEIVE)), ("training", TRAINING)):
            value = {"perceive": self.perceive, "training": self.training}[name]
            if value not in allowed:
                raise ConfigError(f"benchmark.{name}={value!r} must be one of {', '.join(allowed)}")
        for bound in ("pairs", "partner_pairs"):
            if getattr(self, bound) is not None:
                at_least(self, "benchmark", 1, bound)


def assemble_panel(
    frame: pd.DataFrame,
    modalities: tuple[str, str],
    words: tuple[Mapping[str, str], Mapping[str, str]],
    settings: PanelSettings,
    request: BenchmarkRequest,
    checksum: str,
    rejects: Sequence[Reject],
) -> Benchmark:
    """Match each side of the split, put words in place of what is not perceived, and ask.

    Args:
        frame: checked rows as ``assemble_benchmark`` has them, with ``left`` and ``right``, what is matched.
        modalities: of the first and of the second entity.
        words: what names or describes each first entity and each second one.

    Raises:
        ConfigError: words in another language than English, or settings that do not fit.
        InputError: nothing is left for training or for the test.
    """
    described = [entity_column_names(modalities)[side] for side in PERCEIVE[settings.perceive]]
    if described and request.language != ENGLISH:
        raise ConfigError(
            f"benchmark.perceive={settings.perceive} describes entities in {ENGLISH}, but the specialists read "
            f"{request.language}: use benchmark.perceive=both"
        )
    questions = pd.concat([_questions(frame, side, settings, request) for side in SIDES])
    columns = {
        column: questions[column].map(words[entity_column_names(modalities).index(column)]) for column in described
    }
    return assemble_benchmark(
        questions.assign(**columns), modalities, settings, request, checksum, rejects, described=described
    )


def _questions(frame: pd.DataFrame, side: str, settings: PanelSettings, request: BenchmarkRequest) -> pd.DataFrame:
    """The matched rows of a side, at most its limit, whole cycles as far as that goes; in the frame's order."""
    rows = frame[frame["side"] == side]
    if side == "train" and settings.training == "every":
        return rows
    limits = {"train": settings.train_limit, "validation": settings.validation_limit, "test": request.limit}
    selected = matched_rows(rows, request.seed, settings.pairs, settings.partner_pairs)[: limits[side]]
    return rows.iloc[sorted(selected)]
