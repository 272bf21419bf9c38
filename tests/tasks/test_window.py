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
    found = windowed(benchmark([example("a", "MKTAYIA")], [example("b", "GAV")], [example("c", "WWYHPW")]), 5)
    assert [one.entities("protein")[0].value for one in (*found.train, *found.validation, *found.test)] == [
        "MKTAY",
        "GAV",
        "WWYHP",
    ]
    assert found.shortened == (
        Reject("c", "protein of 6 residues: the first 5 are kept"),
        Reject("a", "protein of 7 residues: the first 5 are kept"),
    )
    assert found.rejects == (Reject("r", "bad"),) and found.checksum == "c" and found.train[0].group == "g"
    assert found.train[0].prompt == example("a", "MKTAY").prompt


def test_nothing_to_cut_leaves_the_benchmark_as_it_is() -> None:
    bare = benchmark([example("a", "MKTAY")], [], [example("c", "WWYHP")])
    assert windowed(bare, 5) is bare and windowed(bare, None) is bare


def test_what_becomes_equal_to_a_held_out_question_is_refused_by_name() -> None:
    train = [example("a", "MKTAYIA"), example("b", "MKTAYIA", "CCN"), example("d", "GAVLIG")]
    found = windowed(benchmark(train, [example("e", "MKTAYWW"), example("f", "GAVLIL")], [example("c", "MKTAYG")]), 5)
    assert [one.id for one in found.train] == ["b"] and [one.id for one in found.validation] == ["f"]
    assert found.rejects[1:] == (
        Reject("e", "asks the same as c once proteins are cut to 5 residues"),
        Reject("a", "asks the same as c once proteins are cut to 5 residues"),
        Reject("d", "asks the same as f once proteins are cut to 5 residues"),
    )


@given(st.lists(st.text("ACDEF", min_size=1, max_size=12), min_size=3, max_size=9), st.integers(1, 12))
def test_no_example_is_lost_without_a_reason(proteins: list[str], window: int) -> None:
    examples = [example(str(place), protein) for place, protein in enumerate(proteins)]
    bare = benchmark(examples[2:], examples[1:2], examples[:1])
    found = windowed(bare, window)
    cut = [one for one in examples if len(one.entities("protein")[0].value) > window]
    assert len(found.shortened) == len(cut)
    kept = len(found.train) + len(found.validation) + len(found.test)
    assert kept + len(found.rejects) - len(bare.rejects) == len(examples)
