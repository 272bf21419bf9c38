from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from esmerge.core.prompts import Benchmark, Entity, Example, Reject
from esmerge.tasks.window import windowed

LABELS = (" no", " yes")


def example(name: str, protein: str, drug: str = "CCO") -> Example:
    return Example(name, ("drug ", Entity("molecule", drug), " ", Entity("protein", protein), " ?"), LABELS, 1, "g")


def benchmark(train: list[Example], validation: list[Example], test: list[Example]) -> Benchmark:
    splits = {"train": tuple(train), "validation": tuple(validation), "test": tuple(test)}
    return Benchmark("toy", "Toy", "cross_modal", LABELS, checksum="c", rejects=(Reject("r", "bad"),), **splits)


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
    train = [example("a", "MKTAYIA"), example("b", "MKTAYIA", "CCN"), example("d", "GAVLIG")]
    result = windowed(benchmark(train, [example("e", "MKTAYWW"), example("f", "GAVLIL")], [example("c", "MKTAYG")]), 5)
    assert [item.id for item in result.train] == ["b"] and [item.id for item in result.validation] == ["f"]
    assert result.rejects[1:] == (
        Reject("e", "asks the same as c once proteins are cut to 5 residues"),
        Reject("a", "asks the same as c once proteins are cut to 5 residues"),
        Reject("d", "asks the same as f once proteins are cut to 5 residues"),
    )


@given(st.lists(st.text("ACDEF", min_size=1, max_size=12), min_size=3, max_size=9), st.integers(1, 12))
def test_no_example_is_lost_without_a_reason(proteins: list[str], window: int) -> None:
    examples = [example(str(place), protein) for place, protein in enumerate(proteins)]
    bare = benchmark(examples[2:], examples[1:2], examples[:1])
    result = windowed(bare, window)
    long_examples = [item for item in examples if len(item.entities("protein")[0].value) > window]
    assert len(result.shortened) == len(long_examples)
    count = len(result.train) + len(result.validation) + len(result.test)
    assert count + len(result.rejects) - len(bare.rejects) == len(examples)
