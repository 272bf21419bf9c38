from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.tasks.wording import CELL_PROMPT, LABELS

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Example
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.response_panel import ResponsePanelSettings, departures, response_panel

COLUMNS = {"line": "line", "drug": "drug", "response": "ic50", "compound": "drug", "molecule": "SMILES"}
SETTINGS = ResponsePanelSettings(
    prompt=CELL_PROMPT,
    labels=LABELS,
    responses="pairs.csv",
    drugs="drugs.csv",
    cells="cells.csv",
    columns={**COLUMNS, "cell": "line", "genes": "genes"},
    molecule_pairs=None,
    train_limit=None,
    threshold=0.4,
    training_threshold=0.2,
)
DRUGS = {f"drug{n}": "C" * n + "O" for n in range(1, 13)}
LINES = [f"LINE{n}" for n in range(60)]


@pytest.fixture
def pairs(write: Callable) -> pd.DataFrame:
    """Responses with drugs of different strength, and lines that are sensitive to all."""
    rng = np.random.default_rng(0)
    strength, weakness = rng.normal(0, 3, len(DRUGS)), rng.normal(0, 2, len(LINES))
    rows = [
        (c, d, strength[i] + weakness[j] + 2 * rng.normal()) for i, d in enumerate(DRUGS) for j, c in enumerate(LINES)
    ]
    frame = pd.DataFrame(rows, columns=["line", "drug", "ic50"])
    write("pairs.csv", frame.to_csv(index=False))
    write("drugs.csv", "drug,SMILES\n" + "".join(f"{name},{smiles}\n" for name, smiles in DRUGS.items()))
    write("cells.csv", "line,genes\n" + "".join(f"{name},TP53 EGFR GENE{n}\n" for n, name in enumerate(LINES)))
    return frame


def rows_of(examples: tuple[Example, ...]) -> pd.DataFrame:
    rows = [(*(entity.value for entity in example.entities()), example.group, example.answer) for example in examples]
    return pd.DataFrame(rows, columns=["molecule", "cell", "line", "answer"])


def test_drugs_and_lines_have_as_many_yes_as_no_and_test_lines_are_new(
    pairs: pd.DataFrame, ask: Callable[..., BenchmarkRequest]
) -> None:
    benchmark = response_panel(SETTINGS, ask())
    for side in (benchmark.train, benchmark.test):
        rows = rows_of(side)
        assert all((rows.groupby(name)["answer"].mean() == 0.5).all() for name in ("molecule", "line"))
    assert len(benchmark.test) > 20 and not set(rows_of(benchmark.train)["line"]) & set(rows["line"])


def test_a_drug_without_two_different_responses_is_left_out_by_name(
    pairs: pd.DataFrame, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    expected = response_panel(SETTINGS, ask())
    flat, single = [f"{line},flat,1.5\n" for line in LINES[:20]], f"{LINES[0]},single,2\n"
    write("pairs.csv", pairs.to_csv(index=False) + "".join(flat) + single)
    write("drugs.csv", "drug,SMILES\nflat,CCN\nsingle,CCS\n" + "".join(f"{n},{s}\n" for n, s in DRUGS.items()))
    benchmark = response_panel(SETTINGS, ask())
    assert (benchmark.train, benchmark.test) == (expected.train, expected.test)
    first = len(pairs) + 2
    assert {reject.row for reject in benchmark.rejects} == {f"pairs.csv:{line}" for line in range(first, first + 21)}
    assert {reject.reason for reject in benchmark.rejects} == {"its drug has no two different responses to compare"}


def test_the_answer_is_the_sign_of_a_clear_departure(pairs: pd.DataFrame, ask: Callable[..., BenchmarkRequest]) -> None:
    # With numpy, on the whole table as a matrix of drugs and lines.
    table = pairs.pivot(index="drug", columns="line", values="ic50")
    scores = (table - table.mean(axis=1).to_numpy()[:, None]) / table.std(axis=1, ddof=1).to_numpy()[:, None]
    expected = scores - scores.mean(axis=0)
    name_of = {smiles: name for name, smiles in DRUGS.items()}
    benchmark = response_panel(replace(SETTINGS, training="every"), ask())
    for side, least in ((benchmark.test, 0.4), (benchmark.train, 0.2)):
        for row in rows_of(side).itertuples():
            departure = expected.loc[name_of[row.molecule], row.line]
            assert abs(departure) > least and (departure < 0) == row.answer


def test_departures_do_not_see_the_scale_of_a_drug_or_the_weakness_of_a_line(pairs: pd.DataFrame) -> None:
    changed = pairs["ic50"] * pairs["drug"].map({name: n + 1.0 for n, name in enumerate(DRUGS)}) + 5
    first, second = (departures(values, pairs["drug"], pairs["line"]) for values in (pairs["ic50"], changed))
    assert np.allclose(first, second) and np.allclose(first.groupby(pairs["line"]).mean(), 0)


def test_in_words_a_line_is_what_its_questions_say(pairs: pd.DataFrame, ask: Callable[..., BenchmarkRequest]) -> None:
    both, none = (response_panel(replace(SETTINGS, perceive=name), ask()).test for name in ("both", "none"))
    name_of = {smiles: name for name, smiles in DRUGS.items()}
    words: dict[str, set[str]] = {}
    for entities, text in zip(both, none, strict=True):
        drug, _, description = str(text.prompt[0]).removeprefix("Molecule ").partition(", cell ")
        description = description.removesuffix(". Final answer:").removeprefix("is unusually sensitive to ")
        positive, _, negative = description.replace(",", " ,").partition(" , but not ")
        assert drug == name_of[entities.entities()[0].value]
        assert drug in (positive if entities.answer else negative).split()
        words.setdefault(entities.group, set()).add(description)
    assert all(len(texts) == 1 for texts in words.values())


def test_thresholds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="training_threshold=2 must lie between 0 and benchmark.threshold=0.4"):
        replace(SETTINGS, training_threshold=2.0)


def test_the_drugs_with_the_most_clear_pairs_are_asked_about(
    pairs: pd.DataFrame, ask: Callable[..., BenchmarkRequest]
) -> None:
    departure = departures(pairs["ic50"], pairs["drug"], pairs["line"])
    clear = (
        pairs[departure.abs() > SETTINGS.threshold].groupby("drug").size().sort_values(ascending=False, kind="stable")
    )
    settings = replace(SETTINGS, most_asked=8)
    by_seed = []
    for seed in (0, 1):
        benchmark = response_panel(settings, ask(seed=seed))
        by_seed.append(
            {row.molecule for side in (benchmark.train, benchmark.test) for row in rows_of(side).itertuples()}
        )
    assert by_seed[0] == by_seed[1] and len(by_seed[0]) == 8, "the same drugs with every seed"
    least = min(clear[name] for name, smiles in DRUGS.items() if smiles in by_seed[0])
    assert least >= max(clear[name] for name, smiles in DRUGS.items() if smiles not in by_seed[0])
    every = response_panel(replace(settings, training="every"), ask())
    assert set(rows_of(every.train)["molecule"]) == by_seed[0]
    with pytest.raises(ConfigError, match="most_asked=0"):
        replace(SETTINGS, most_asked=0)
