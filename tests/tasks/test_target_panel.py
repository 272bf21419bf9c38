from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.data.test_families import clan
from tests.tasks.wording import LABELS, PROMPT

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Example
from esmerge.data.families import protein_families
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.target_panel import TargetPanelSettings, target_panel

CHAINS = ["C" * length + tail for length in range(1, 41) for tail in ("O", "N", "F", "Cl", "Br")]
SETTINGS = TargetPanelSettings(
    prompt=PROMPT, labels=LABELS, tables=["one.csv", "two.csv"], family_molecules=20, train_limit=None
)


@pytest.fixture
def binding_pairs(write: Callable) -> set[tuple[str, str]]:
    """The pairs of two tables: four families, and one that three molecules bind."""
    rng = np.random.default_rng(0)
    clans = [clan(rng, 0.15) for _ in range(5)]
    pairs = [(m, str(rng.choice(clans[n % 4]))) for n, m in enumerate(CHAINS)]
    pairs += [(m, str(rng.choice(clans[(n + 1) % 4]))) for n, m in enumerate(CHAINS[::3])]
    rare = [(m, clans[4][0]) for m in CHAINS[:3]]
    for name, rows in (("one.csv", [*pairs[:150], *rare]), ("two.csv", pairs[100:])):
        positive = "".join(f"{m},{p},1\n" for m, p in rows)
        negative = "".join(f"{m},{clans[0][0]},0\n" for m in CHAINS[:10])
        write(name, "SMILES,sequence,label\n" + positive + negative)
    return set(pairs) | set(rare)


def rows_of(examples: tuple[Example, ...]) -> pd.DataFrame:
    rows = [(*(entity.value for entity in example.entities()), example.group, example.answer) for example in examples]
    return pd.DataFrame(rows, columns=["molecule", "protein", "family", "answer"])


def test_molecules_and_proteins_have_as_many_yes_as_no(
    binding_pairs: set[tuple[str, str]], ask: Callable[..., BenchmarkRequest]
) -> None:
    benchmark = target_panel(SETTINGS, ask())
    for side in (benchmark.train, benchmark.validation, benchmark.test):
        rows = rows_of(side)
        assert all((rows.groupby(name)["answer"].mean() == 0.5).all() for name in ("molecule", "protein", "family"))
    assert len(benchmark.test) > 10 and not set(rows_of(benchmark.train)["molecule"]) & set(rows["molecule"])


def test_a_no_is_of_a_family_that_the_molecule_does_not_bind(
    binding_pairs: set[tuple[str, str]], ask: Callable[..., BenchmarkRequest]
) -> None:
    families = protein_families(sorted({protein for _, protein in binding_pairs}), SETTINGS.shared)
    family_pairs = {(molecule, families[protein]) for molecule, protein in binding_pairs}
    benchmark = target_panel(replace(SETTINGS, training="every"), ask())
    rows = rows_of((*benchmark.train, *benchmark.test))
    for row in rows.itertuples():
        assert ((row.molecule, families[row.protein]) in family_pairs) == row.answer
        assert not row.answer or (row.molecule, row.protein) in binding_pairs
    assert {f"family {number}" for number in range(1, 5)} == set(rows["family"])
    assert sum("too few molecules" in reject.reason for reject in benchmark.rejects) == 3


def test_what_contradicts_or_repeats_is_a_reject_and_unsettled_pairs_are_neither_yes_nor_no(
    binding_pairs: set[tuple[str, str]], ask: Callable[..., BenchmarkRequest], write: Callable
) -> None:
    settings = replace(SETTINGS, training="every", max_rejects=0.2, validation_limit=None)
    before = target_panel(settings, ask())
    observed = [example for example in before.train if not example.id.startswith("unobserved")]
    doubted = observed[:12]
    rows = [[entity.value for entity in example.entities()] for example in doubted]
    write("three.csv", "SMILES,sequence,label\n" + "".join(f"{m},{p},0\n" for m, p in rows) + "CCCCCCO,MKV,1\n" * 2)
    after = target_panel(replace(settings, tables=[*SETTINGS.tables, "three.csv"], max_rejects=0.9), ask())
    reasons = {reject.row: reject.reason for reject in after.rejects}
    contradicted = {example.id for example in doubted} | {f"three.csv:{line}" for line in range(2, 14)}
    assert all("different labels between" in reasons[row] for row in contradicted)
    assert "same molecule and protein and label as in three.csv:14" in reasons["three.csv:15"]
    repeats = [row for row, reason in reasons.items() if row.startswith("two.csv") and "as in one.csv" in reason]
    assert len(repeats) >= 50, "positive rows 100 to 149 stand in both tables, and ten negative ones"
    examples = (*after.train, *after.validation, *after.test)
    assert not {example.id for example in examples} & contradicted
    families = protein_families(sorted({protein for _, protein in binding_pairs}), SETTINGS.shared)
    bound = {(molecule, families[protein]) for molecule, protein in binding_pairs}
    for row in rows_of(examples).itertuples():
        assert row.answer or (row.molecule, families[row.protein]) not in bound, "an unsettled family is never a no"
    others = {example.id for example in examples if example.id not in contradicted}
    assert {example.id for example in (*before.train,)} - contradicted <= others, "all other training rows stay"


def test_in_words_a_molecule_is_its_families_and_a_protein_its_own(
    binding_pairs: set[tuple[str, str]], ask: Callable[..., BenchmarkRequest]
) -> None:
    both, none = (target_panel(replace(SETTINGS, perceive=name), ask()).test for name in ("both", "none"))
    words: dict[str, set[str]] = {}
    for entities, text in zip(both, none, strict=True):
        (prompt,) = text.prompt
        description, _, ending = str(prompt).removeprefix("Molecule ").partition(", protein ")
        assert ending == f"{entities.group}. Final answer:"
        positive, _, negative = description.removeprefix("binds ").partition(", but not ")
        assert entities.group in (positive if entities.answer else negative)
        words.setdefault(entities.entities()[0].value, set()).add(description)
    assert all(len(texts) == 1 for texts in words.values())


@pytest.mark.parametrize(("changes", "message"), [({"shared": 1.0}, "shared=1"), ({"negatives": 0}, "negatives=0")])
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **changes)


def test_too_few_families_are_refused(
    binding_pairs: set[tuple[str, str]], ask: Callable[..., BenchmarkRequest]
) -> None:
    with pytest.raises(InputError, match="0 families of proteins are bound by benchmark.family_molecules=500"):
        target_panel(replace(SETTINGS, family_molecules=500), ask())
