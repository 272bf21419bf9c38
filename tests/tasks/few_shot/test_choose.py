from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tasks.few_shot.examples import FORMS, draw, example

from esmerge.core.errors import ConfigError, InputError
from esmerge.tasks.few_shot import choose
from esmerge.tasks.few_shot.choose import choose_shots, rank_examples
from esmerge.tasks.few_shot.similarity import compare_examples, jaccard


@settings(max_examples=25, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 10**6),
    count=st.integers(0, 12),
    choice=st.sampled_from(["auto", "random"]),
    order=st.permutations(range(12)),
)
def test_shots_are_distinct_and_do_not_depend_on_the_order_of_the_rows(
    form: tuple[str, ...], seed: int, count: int, choice: str, order: list[int]
) -> None:
    questions, train = draw(form, 3, seed, "q"), draw(form, 12, seed + 1, "t")
    chosen = choose_shots(questions, train, count, choice, 0)
    assert chosen == choose_shots(questions, tuple(train[place] for place in order), count, choice, 0)
    for shots in chosen:
        assert len({shot.id for shot in shots}) == count and set(shots) <= set(train)
    one_by_one = [choose_shots((question,), train, count, choice, 0) for question in questions]
    assert chosen == tuple(shots for (shots,) in one_by_one)


def test_equals_are_taken_in_the_order_of_their_ids() -> None:
    train = tuple(example(name, ("molecule",), ("CCO",)) for name in "dbca")
    (shots,) = choose_shots((example("q", ("molecule",), ("CCO",)),), train, 3, "auto", 0)
    assert [shot.id for shot in shots] == ["c", "b", "a"], "the first stands last"


@pytest.mark.parametrize("pairs", [1, 100])
def test_blocks_do_not_show(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, train = draw(("molecule", "cell"), 11, 0, "q"), draw(("molecule", "cell"), 30, 1, "t")
    expected = choose_shots(questions, train, 4, "auto", 0)
    choose_shots.cache_clear()
    monkeypatch.setattr(choose, "PAIRS", pairs)
    assert choose_shots(questions, train, 4, "auto", 0) == expected


def test_the_same_question_is_answered_from_memory() -> None:
    questions, train = draw(("cell",), 2, 5, "q"), draw(("cell",), 5, 6, "t")
    first = choose_shots(questions, train, 2, "auto", 0)
    second = choose_shots(draw(("cell",), 2, 5, "q"), draw(("cell",), 5, 6, "t"), 2, "auto", 0)
    assert second is first


def test_more_shots_than_training_examples_are_refused() -> None:
    questions, train = draw(("cell",), 2, 0, "q"), draw(("cell",), 3, 1, "t")
    assert all(len(shots) == 3 for shots in choose_shots(questions, train, 3, "auto", 0))
    with pytest.raises(ConfigError, match="shots=4, but the training split holds 3 examples: expected at most as many"):
        choose_shots(questions, train, 4, "auto", 0)


def test_examples_of_different_forms_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"example b holds \{'cell': 1\}, but a holds \{'molecule': 1\}"):
        compare_examples([example("a", ("molecule",), ("CCO",))], [example("b", ("cell",), ("CD4",))], 0)


@given(st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 9))
def test_later_keys_break_ties_of_earlier_ones(rows: list[list[int]], count: int) -> None:
    keys = [np.array([row], dtype=float) for row in rows]
    expected = sorted(range(9), key=lambda place: ([-row[place] for row in rows], place))[:count]
    assert list(rank_examples(keys, count)[0]) == expected


def test_jaccard_by_hand() -> None:
    questions = [example("q", ("cell",), ("CD4 ALB",))]
    train = [example(name, ("cell",), (genes,)) for name, genes in (("a", "ALB CD4"), ("b", "ALB TTR"), ("c", "TTR"))]
    similarity = compare_examples(questions, train, 0)
    assert similarity.scores("cell").tolist() == [[1.0, round(1 / 3, 12), 0.0]]
    features = similarity.entities["cell"].features
    assert np.array_equal(np.diag(jaccard(features, features)), np.ones(4))
