"""Panels: questions on real labels that neither side alone can answer.

Every molecule stands in as many questions with the answer yes as with the answer no, and so does every partner, so that
a reader of one side is right in half of them (``esmerge.data.matching``). In the text form a side is named or described
in words in place of the entity: in English by a sentence, in the brief wording by a record (``esmerge.tasks.records``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.validation import at_least
from esmerge.data.matching import matched_rows
from esmerge.data.splits import SIDES, uniform
from esmerge.data.templates import BRIEF, ENGLISH, in_language, worded_language
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.assemble import assemble_benchmark, entity_column_names
from esmerge.tasks.records import question_records
from esmerge.tasks.seen import unseen
from esmerge.tasks.table_settings import SplitSettings

PERCEIVE = {"both": (), "molecule": (1,), "partner": (0,), "none": (0, 1)}  # -> the sides that are given in words
TRAINING = ("matched", "every")
SINGLE = "no label with the other answer is left to share a record with"
CLEAR = "clear"  # a column of a panel's rows: whether the answer is clear enough for a matched question


@dataclass(frozen=True)
class Named:
    """A side whose entities have names.

    Attributes:
        names: entity -> its name.
    """

    names: Mapping[str, str]


@dataclass(frozen=True)
class Described:
    """A side whose entities are given by what is known of them, since their names would say nothing.

    Attributes:
        sentences: from the questions, rows of the panel, to entity -> its description in English.
    """

    sentences: Callable[[pd.DataFrame], Mapping[str, str]]


Words = tuple[Named | Described, Named | Described]  # of the first and of the second entity of a question


@dataclass(frozen=True, kw_only=True)
class PanelSettings(SplitSettings):
    """Settings of every panel.

    Attributes:
        perceive: the sides that are perceived entities, ``both``, ``molecule`` (the first), ``partner`` (the second) or
            ``none``; the others are named or described in words.
        training: ``matched``: training questions are chosen like those of the test. ``every``: all labels that there
            are, whose answers one side alone predicts in part; what classical models learn from.
        molecule_pairs: a molecule stands in at most so many questions with either answer; null for no bound.
        partner_pairs: the same for a partner.
        listed: names in a record of the brief wording at most.
    """

    perceive: str = "both"
    training: str = "matched"
    molecule_pairs: int | None = 1
    partner_pairs: int | None = None
    listed: int = 6
    split: str = "cold_drug"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("perceive", tuple(PERCEIVE)), ("training", TRAINING)):
            value = {"perceive": self.perceive, "training": self.training}[name]
            if value not in allowed:
                raise ConfigError(f"benchmark.{name}={value!r} must be one of {', '.join(allowed)}")
        for bound in ("molecule_pairs", "partner_pairs"):
            if getattr(self, bound) is not None:
                at_least(self, "benchmark", 1, bound)
        at_least(self, "benchmark", 2, "listed")


def assemble_panel(
    frame: pd.DataFrame,
    modalities: tuple[str, str],
    words: Words,
    settings: PanelSettings,
    request: BenchmarkRequest,
    checksum: str,
    rejects: Sequence[Reject],
) -> Benchmark:
    """Match each side of the split, put words in place of what is not perceived, and ask.

    Which questions are asked, and their ids, are the same whatever is perceived, but for one thing: with records and
    ``training=every``, training labels that find no partner with the other answer are left out.

    Args:
        frame: checked rows as ``assemble_benchmark`` has them, with ``left`` and ``right``, what is matched, and
            optionally ``CLEAR``; rows that are not clear serve ``training=every`` alone. Its index is unique.
        modalities: of the first and of the second entity.
        words: what names or describes the first and the second entity.

    Raises:
        ConfigError: words in another language than English or the brief wording, or settings that do not fit.
        InputError: nothing is left for training or for the test.
    """
    names = entity_column_names(modalities)
    sides = _sides_in_words(settings, request)
    perceived = {names[side]: modalities[side] for side in (0, 1) if side not in sides}
    frame, seen_rejects = unseen(frame, perceived, request)  # before questions are matched
    choices = [_choose(frame, side, settings, request) for side in SIDES]
    questions = pd.concat([rows for _, rows in choices])
    columns: dict[str, pd.Series] = {}
    left_out: list[Reject] = []
    for side in sides:
        if worded_language(settings.prompt, request.language) == BRIEF and isinstance(words[side], Described):
            facts = _facts(frame, names[side], names[1 - side], words[1 - side], request)
            matched = facts.loc[pd.concat([record_rows for record_rows, _ in choices]).index]
            columns[names[side]] = _records(matched, facts, settings, request)
            single = ~questions.index.isin(columns[names[side]].index)
            left_out += [Reject(row, SINGLE) for row in questions.loc[single, "row"]]
            questions = questions[~single]
        else:
            columns[names[side]] = _in_words(words[side], questions, names[side])
    questions = questions.assign(**columns)  # by index: a record is of a question, not of an entity
    rejects = [*rejects, *seen_rejects, *left_out]
    bare_request = replace(request, seen=None)  # what was seen is gone by now
    return assemble_benchmark(questions, modalities, settings, bare_request, checksum, rejects, described=list(columns))


def _records(
    matched: pd.DataFrame, facts: pd.DataFrame, settings: PanelSettings, request: BenchmarkRequest
) -> pd.Series:
    """The record of each matched question, as the brief wording puts it."""
    labels = in_language("labels", settings.labels, BRIEF, request.name)
    return question_records(matched, facts, labels, settings.listed, request.seed)


def _sides_in_words(settings: PanelSettings, request: BenchmarkRequest) -> tuple[int, ...]:
    """The sides, first (0) and second (1), that words stand for; raises ``ConfigError`` in a language without any."""
    sides, language = PERCEIVE[settings.perceive], worded_language(settings.prompt, request.language)
    if sides and language not in (ENGLISH, BRIEF):
        raise ConfigError(
            f"benchmark.perceive={settings.perceive} describes entities in {ENGLISH} or {BRIEF}, but the specialists "
            f"read {language}: use benchmark.perceive=both"
        )
    return sides


def _in_words(words: Named | Described, questions: pd.DataFrame, column: str) -> pd.Series:
    """(n,) the name of each question's entity, or the sentence that describes it."""
    by_entity = words.names if isinstance(words, Named) else words.sentences(questions)
    return questions[column].map(by_entity)


def _facts(
    frame: pd.DataFrame, column: str, partner_column: str, partner: Named | Described, request: BenchmarkRequest
) -> pd.DataFrame:
    """What the rows say of the entities of a column: ``side``, ``entity``, ``name`` of the partner, and ``answer``."""
    if not isinstance(partner, Named):
        raise ConfigError(f"benchmark {request.name!r} describes both of its sides: a record needs names to list")
    names = frame[partner_column].map(partner.names)
    return frame[["side", "answer"]].assign(entity=frame[column], name=names)


def _choose(
    frame: pd.DataFrame, side: str, settings: PanelSettings, request: BenchmarkRequest
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a side from which records are made, and those that are asked, in the frame's order.

    Matched ones stand in the order of their cycles and are asked up to the side's limit, whole cycles as far as that
    goes. Of ``training=every`` all are asked, and the order is drawn.
    """
    rows = frame[frame["side"] == side]
    if side == "train" and settings.training == "every":
        keys = rows["left"] + " " + rows["right"]
        return rows.loc[keys.map(lambda key: uniform(f"{request.seed}:{key}")).sort_values().index], rows
    rows = rows[rows[CLEAR]] if CLEAR in rows else rows
    limits = {"train": settings.train_limit, "validation": settings.validation_limit, "test": request.limit}
    selected = matched_rows(rows, request.seed, settings.molecule_pairs, settings.partner_pairs)
    return rows.iloc[selected], rows.iloc[sorted(selected[: limits[side]])]
