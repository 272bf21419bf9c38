"""Records: each name once, both answers, and as many questions of either answer to one record."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from esmerge.tasks.records import question_records

LABELS = ["No", "Yes"]


def rows(answers: dict[str, int], entity: str = "A", side: str = "test") -> pd.DataFrame:
    frame = pd.DataFrame(list(answers.items()), columns=["name", "answer"])
    return frame.assign(entity=entity, side=side)


def drawn(names: int, seed: int, share: float = 0.5) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    return {f"drug {number}": int(rng.random() < share) for number in range(names)}


def content(record: str) -> dict[str, int]:
    """Name -> answer, as a reader finds them; fails where a name stands twice."""
    entries = [entry.rsplit(" ", 1) for entry in record.split(", ")]
    assert len({name for name, _ in entries}) == len(entries)
    return {name: LABELS.index(label) for name, label in entries}


@pytest.mark.parametrize("listed", [2, 3, 6, 50])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_record_answers_its_questions_with_as_many_yes_as_no(listed: int, share: float) -> None:
    facts = pd.concat([rows(drawn(17, seed, share), entity) for seed, entity in enumerate("ABC")], ignore_index=True)
    records = question_records(facts, facts, LABELS, listed, 0)
    balance: Counter[tuple[str, str]] = Counter()
    for index, record in records.items():
        entity, name, answer = facts.loc[index, ["entity", "name", "answer"]]
        entries = content(record)
        assert entries[name] == answer and set(entries.values()) == {0, 1}
        assert len(entries) == min(listed, 17), "what room is left is filled"
        truth = facts[facts["entity"] == entity].set_index("name")["answer"]
        assert all(truth[listed_name] == value for listed_name, value in entries.items())
        balance[entity, record] += 2 * answer - 1
    assert set(balance.values()) == {0}
    fewer = facts.groupby("entity")["answer"].agg(lambda answers: min(answers.sum(), len(answers) - answers.sum()))
    assert len(records) == 2 * fewer.sum()


def test_the_first_yes_and_the_first_no_share_a_record() -> None:
    facts = rows({"a": 1, "b": 1, "c": 0, "d": 0})
    records = question_records(facts, facts, LABELS, 2, 0)
    assert [set(content(record)) for record in records.sort_index()] == [{"a", "c"}, {"b", "d"}, {"a", "c"}, {"b", "d"}]


def test_a_name_that_is_asked_about_twice_stands_once() -> None:
    facts = pd.concat([rows({"a": 1, "b": 0}), rows({"a": 1, "c": 0})], ignore_index=True)
    records = question_records(facts, facts, LABELS, 6, 0)
    assert len(set(records)) == 1 and content(records[0]) == {"a": 1, "b": 0, "c": 0}


def test_a_record_lists_nothing_of_another_side_of_the_split() -> None:
    sides = [rows(drawn(6, seed), side=side) for seed, side in enumerate(("train", "test"))]
    facts = pd.concat([sides[0].assign(name="train " + sides[0]["name"]), sides[1]], ignore_index=True)
    records = question_records(facts, facts, LABELS, 6, 0)
    assert len(records) and all(
        name.startswith("train") == (facts.loc[index, "side"] == "train")
        for index, record in records.items()
        for name in content(record)
    )


def test_order_and_filling_depend_on_seed_and_entity_and_not_on_the_order_of_the_facts() -> None:
    facts = pd.concat([rows(drawn(30, 0), entity) for entity in "AB"], ignore_index=True)
    questions = facts.groupby(["entity", "answer"]).head(1)
    first, shuffled, other = (
        question_records(questions, table, LABELS, 6, seed)
        for table, seed in ((facts, 0), (facts.sample(frac=1, random_state=1), 0), (facts, 1))
    )
    assert first.equals(shuffled) and not first.equals(other)
    by_entity = first.groupby(facts["entity"]).unique()
    assert [len(records) for records in by_entity] == [1, 1] and by_entity["A"][0] != by_entity["B"][0]


def test_neither_the_position_nor_the_answer_tells_what_is_asked() -> None:
    facts = pd.concat([rows(drawn(12, seed), f"E{seed}") for seed in range(400)], ignore_index=True)
    questions = facts.groupby(["entity", "answer"]).head(1)
    records = question_records(questions, facts, LABELS, 6, 0)
    positions = Counter(list(content(record)).index(facts.loc[index, "name"]) for index, record in records.items())
    assert min(positions.values()) > 0.8 * len(records) / 6


def test_a_question_without_a_partner_has_no_record() -> None:
    facts = rows({"a": 1, "b": 1, "c": 0})
    assert list(question_records(facts, facts, LABELS, 6, 0).sort_index().index) == [0, 2]
    assert question_records(rows({"a": 1}), rows({"a": 1}), LABELS, 6, 0).empty
