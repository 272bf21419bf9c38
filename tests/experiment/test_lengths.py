"""Questions that a backbone cannot read fail the run before anything is measured, by benchmark and example."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import small
from tests.conftest import composed

from esmerge.core.errors import InputError
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.experiment.config import read_sweep
from esmerge.experiment.lengths import check_lengths
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.model.reach import Reach
from esmerge.tasks.window import windowed

SHORT, LONG = "M K T", " ".join("MKTAY" * 8)  # words of the small backbone's tokenizer


def example(name: str, protein: str) -> Example:
    return Example(name, ("protein : ", Entity("protein", protein), " bind ? "), ("no", "yes at all"), 0)


def suite() -> list[Benchmark]:
    long, short = example("row 7", LONG), example("row 1", SHORT)
    return [Benchmark("human", "Human", "cross_modal", ("no", "yes at all"), (long,), (long,), (short,), "0")]


def spec(*overrides: str) -> RunSpec:
    return plan_runs(read_sweep(composed("references=[]", *overrides)))[-1]


@pytest.fixture
def specialists(monkeypatch: pytest.MonkeyPatch) -> small.Specialists:
    monkeypatch.setattr(Reach, "of", lambda model: Reach(20, True))
    return replace(small.specialists({"mol": "molecule", "gene": "cell"}), encoders={})


@pytest.mark.parametrize(
    ("overrides", "side"),
    [
        (["method=base"], None),
        (["method=average"], None),
        (["method=average", "tuning=validation"], "validation"),
        (["method=finetuned"], "training"),
    ],
)
def test_what_a_run_reads_must_fit(specialists: small.Specialists, overrides: list[str], side: str | None) -> None:
    if side is None:
        check_lengths(spec(*overrides), suite(), specialists)
        return
    message = rf"benchmark 'human', {side} example row 7 takes 4\d positions \(its protein has 79 characters\)"
    with pytest.raises(InputError, match=message):
        check_lengths(spec(*overrides), suite(), specialists)


def test_a_window_makes_them_fit(specialists: small.Specialists) -> None:
    benchmark = replace(suite()[0], test=(example("row 7", LONG),), train=(), validation=())
    with pytest.raises(InputError, match=r"protein_window"):
        check_lengths(spec("method=base"), [benchmark], specialists)
    excerpt = windowed(benchmark, 20)
    check_lengths(spec("method=base"), [excerpt], specialists)
    assert len(excerpt.shortened) == 1


def test_what_is_written_must_fit_too(specialists: small.Specialists) -> None:
    overrides = ["method=base", "compute.scoring=generate"]
    check_lengths(spec(*overrides, "compute.max_new_tokens=4"), suite(), specialists)
    with pytest.raises(InputError, match=r"test example row 1 takes 2\d positions"):
        check_lengths(spec(*overrides, "compute.max_new_tokens=16"), suite(), specialists)
