"""Records: how the brief wording describes an entity, ``CYP2D6 No, CYP3A4 Yes``: names with their answers.

Questions that share a record are as often answered by yes as by no, and each finds its name in it. So the record alone
says nothing of the answer; who knows the name of the other side looks it up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from esmerge.data.label_tables import record_in_words
from esmerge.data.splits import uniform

Question = tuple[object, str, int]  # its index, the name that it asks about, and the answer


def question_records(
    questions: pd.DataFrame, facts: pd.DataFrame, labels: Sequence[str], listed: int, seed: int
) -> pd.Series:
    """The record of each question; a question that finds no partner with the other answer has none.

    An entity with more questions than a record has room for gets several records. Room that is left over is filled
    with other facts about the entity, drawn by the seed, of the question's side of the split alone: an entity may stand
    on several sides, and a training question must not tell the answer to one of the test.

    Args:
        questions: (n,) ``side`` of the split, ``entity``, ``name`` and ``answer`` (0 or 1); the index is unique. An
            entity's first yes goes with its first no, and so on: in the order of ``matched_rows`` these are the two
            that belong together.
        facts: all that may be listed, with the same columns.
        labels: of the answers, no and yes.
        listed: names in a record at most, at least 2.

    Returns:
        Index of the question -> record, of the questions that have one; in no particular order.
    """
    facts_by_entity, questions_by_entity = _by_entity(facts), _by_entity(questions)
    records: dict[object, str] = {}
    for (side, entity), of_entity in questions_by_entity.items():
        answers, draw = {name: answer for _, name, answer in facts_by_entity[side, entity]}, f"{seed}:{entity}"
        for number, group in enumerate(_groups(of_entity, listed)):
            record = record_in_words(_filled(group, answers, listed, draw), labels, f"{draw}:{number}")
            records.update({index: record for index, _, _ in group})
    return pd.Series(records, dtype=object)


def _by_entity(rows: pd.DataFrame) -> dict[tuple[str, str], list[Question]]:
    """(Side, entity) -> its rows, in their order."""
    groups: dict[tuple[str, str], list[Question]] = {}
    columns = (rows[name] for name in ("side", "entity", "name", "answer"))
    for index, side, entity, name, answer in zip(rows.index, *columns, strict=True):
        groups.setdefault((side, entity), []).append((index, name, int(answer)))
    return groups


def _groups(questions: Sequence[Question], listed: int) -> list[list[Question]]:
    """Questions that share a record: pairs of a yes and a no, as many as there is room for."""
    positive, negative = ([question for question in questions if question[2] == answer] for answer in (1, 0))
    groups: list[list[Question]] = []
    for pair in zip(positive, negative, strict=False):
        if groups and len({name for _, name, _ in (*groups[-1], *pair)}) <= listed:
            groups[-1] += pair
        else:
            groups.append(list(pair))
    return groups


def _filled(questions: Sequence[Question], facts: Mapping[str, int], listed: int, draw: str) -> dict[str, int]:
    """Name -> answer: those of the questions, and of other facts as many as there is room for."""
    content = {name: answer for _, name, answer in questions}
    filling = sorted(facts.keys() - content.keys(), key=lambda name: uniform(f"{draw}:filling:{name}"))
    return content | {name: facts[name] for name in filling[: listed - len(content)]}
