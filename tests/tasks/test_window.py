from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tasks.wording import LABELS as LABELS_OF
from tests.tasks.wording import PROMPT

from esmerge.core.errors import InputError
from esmerge.core.prompts import Benchmark, Entity, Example, Reject
from esmerge.data.splits import check_disjoint
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.interactions import InteractionSettings, interactions
from esmerge.tasks.window import windowed

LABELS = (" no", " yes")


def example(name: str, protein: str, drug: str = "CCO") -> Example:
    return Example(name, ("drug ", Entity("molecule", drug), " ", Entity("protein", protein), " ?"), LABELS, 1, "g")


def benchmark(train: list[Example], validation: list[Example], test: list[Example]) -> Benchmark:
    splits = {"train": tuple(train), "validation": tuple(validation), "test": tuple(test)}
    return Benchmark("toy", "Toy", "cross_modal", LABELS, checksum="c", rejects=(Reject("r", "bad"),), **splits)


def _emptied(proteins: list[str], cut: list[str]) -> bool:
    """Whether a question of one drug, asked in the test (the first) or in validation (the second), leaves the second or
    all others nothing: a cut protein that stands there is asked about there."""
    return cut[1] == cut[0] or set(cut[2:]) <= {cut[0], cut[1]}


def test_long_proteins_are_cut_in_every_split_and_noted() -> None:
    result = windowed(benchmark([example("a", "MKTAYIA")], [example("b", "GAV")], [example("c", "WWYHPW")]), 5)
    assert [item.entities("protein")[0].value for item in (*result.train, *result.validation, *result.test)] == [
        "MKTAY",
        "GAV",
        "WWYHP",
    ]
    assert result.shortened == (
        Reject("c", "protein of 6 residues: the first 5 are kept"),
        Reject("a", "protein of 7 residues: the first 5 are kept"),
    )
    assert result.rejects == (Reject("r", "bad"),) and result.checksum == "c" and result.train[0].group == "g"
    assert result.train[0].prompt == example("a", "MKTAY").prompt


def test_nothing_to_cut_leaves_the_benchmark_as_it_is() -> None:
    bare = benchmark([example("a", "MKTAY")], [], [example("c", "WWYHP")])
    assert windowed(bare, 5) is bare and windowed(bare, None) is bare


def test_what_becomes_equal_to_a_held_out_question_is_refused_by_name() -> None:
    everywhere = [example(name, "WWYHPW", drug) for name, drug in (("t", "C"), ("u", "CC"), ("v", "CCC"))]
    train = [example("a", "MKTAYIA"), example("b", "MKTAYIA", "CCN"), example("d", "GAVLIG"), everywhere[0]]
    validation = [example("e", "MKTAYWW"), example("f", "GAVLIL"), everywhere[1]]
    result = windowed(benchmark(train, validation, [example("c", "MKTAYG"), everywhere[2]]), 5)
    assert [item.id for item in result.train] == ["b", "t"] and [item.id for item in result.validation] == ["f", "u"]
    assert result.rejects[1:] == (
        Reject("e", "asks the same as c once proteins are cut to 5 residues"),
        Reject("a", "asks the same as c once proteins are cut to 5 residues"),
        Reject("d", "asks the same as f once proteins are cut to 5 residues"),
    )


def test_splits_that_share_no_protein_share_none_after_the_cut() -> None:
    train = [example("a", "MKTAYIA", "CCN"), example("b", "GAVLIG", "CCN"), example("d", "WWYHPW", "CCN")]
    validation = [example("e", "MKTAYWW", "CCC"), example("f", "GAVLIL", "CCC")]
    result = windowed(benchmark(train, validation, [example("c", "MKTAYG")]), 5)
    assert [item.id for item in result.train] == ["d"] and [item.id for item in result.validation] == ["f"]
    assert result.rejects[1:] == (
        Reject("e", "holds the same protein as c once proteins are cut to 5 residues"),
        Reject("a", "holds the same protein as c once proteins are cut to 5 residues"),
        Reject("b", "holds the same protein as f once proteins are cut to 5 residues"),
    )


def test_cold_targets_stay_apart_under_a_window(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    rng = np.random.default_rng(0)
    starts = ["".join(rng.choice(list("ACDEFGHIK"), 12)) for _ in range(30)]
    chains = [start + tail for start in starts for tail in ("LMN", "PQR", "STV")]
    rows = "".join(f"{'C' * (1 + n % 40)}O,{chains[n % 90]},{n % 2}\n" for n in range(900))
    write("t.csv", "SMILES,sequence,label\n" + rows)
    settings = InteractionSettings(prompt=PROMPT, labels=LABELS_OF, table="t.csv", split="cold_target", max_rejects=0.9)
    bare = interactions(replace(settings, train_limit=None, validation_limit=None), ask())
    result = windowed(bare, 12)
    sides = {"train": result.train, "validation": result.validation, "test": result.test}
    frame = pd.DataFrame(
        [(item.entities("protein")[0].value, side) for side, items in sides.items() for item in items],
        columns=["protein", "side"],
    )
    check_disjoint(frame, "protein", "toy")
    assert all(sides.values()) and len(result.test) == len(bare.test)
    count = len(bare.train) + len(bare.validation) - len(result.train) - len(result.validation)
    assert count == len(result.rejects) - len(bare.rejects) > 0
    with pytest.raises(InputError, match="protein_window=1 leaves no train example"):
        windowed(bare, 1)


def test_words_in_place_of_an_entity_tell_questions_apart() -> None:
    def described(name: str, words: str, protein: str) -> Example:
        return Example(name, (f"drug {words} ", Entity("protein", protein), " ?"), LABELS, 1, "g")

    train = [described("a", "aspirin", "MKTAYIA"), described("b", "ibuprofen", "MKTAYIA"), described("d", "x", "MKTAY")]
    result = windowed(benchmark(train, [], [described("c", "aspirin", "MKTAYG"), described("e", "y", "MKTAY")]), 5)
    assert [item.id for item in result.train] == ["b", "d"]


@given(st.lists(st.text("ACDEF", min_size=1, max_size=12), min_size=3, max_size=9), st.integers(1, 12))
def test_no_example_is_lost_without_a_reason(proteins: list[str], window: int) -> None:
    examples = [example(str(place), protein) for place, protein in enumerate(proteins)]
    bare = benchmark(examples[2:], examples[1:2], examples[:1])
    cut = [protein[:window] for protein in proteins]
    if max(map(len, proteins)) > window and _emptied(proteins, cut):
        with pytest.raises(InputError, match="leaves no"):
            windowed(bare, window)
        return
    result = windowed(bare, window)
    long_examples = [item for item in examples if len(item.entities("protein")[0].value) > window]
    assert len(result.shortened) == len(long_examples)
    count = len(result.train) + len(result.validation) + len(result.test)
    assert count + len(result.rejects) - len(bare.rejects) == len(examples)
