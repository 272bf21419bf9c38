from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tasks.wording import LABELS, PROMPT

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark
from esmerge.data.enzymes import enzyme_sequence
from esmerge.data.molecules import canonical_smiles, scaffold
from esmerge.data.sequences import check_sequence
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.sources.cyp import CypSettings, cyp

DATA = Path(__file__).parents[3] / "shared" / "data"
CHAINS = ["C" * length + tail for length in range(1, 41) for tail in ("O", "N", "F", "Cl", "Br")]
SETTINGS = CypSettings(prompt=PROMPT, labels=LABELS, table="cyp.csv", enzyme="CYP3A4", train_limit=None)


def table(molecules: list[str]) -> str:
    return "SMILES,label\n" + "".join(f"{smiles},{len(smiles) % 2}\n" for smiles in molecules)


def sides(benchmark: Benchmark) -> dict[str, str]:
    """Molecule -> the split it stands in."""
    splits = {"train": benchmark.train, "validation": benchmark.validation, "test": benchmark.test}
    return {e.entities("molecule")[0].value: side for side, examples in splits.items() for e in examples}


def test_a_question_holds_molecule_and_enzyme(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("cyp.csv", table(CHAINS))
    benchmark = cyp(SETTINGS, ask(title="3A4"))
    example = benchmark.test[0]
    molecule, protein = example.entities()
    assert (molecule.modality, protein.modality) == ("molecule", "protein")
    assert protein.value == enzyme_sequence("CYP3A4")
    assert example.prompt == ("Molecule ", molecule, ", protein ", protein, ". Final answer:")
    assert example.labels == (" No way", " Yes") and benchmark.labels == ("No way", "Yes")
    file, line = example.id.split(":")
    assert file == "cyp.csv" and canonical_smiles(CHAINS[int(line) - 2]) == molecule.value
    assert example.answer == len(CHAINS[int(line) - 2]) % 2
    assert (benchmark.title, example.group) == ("3A4", "CYP3A4")


def test_all_rows_are_used_once_and_the_splits_are_disjoint(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("cyp.csv", table(CHAINS))
    benchmark = cyp(SETTINGS, ask())
    assert (
        len(benchmark.train) + len(benchmark.validation) + len(benchmark.test) == len(CHAINS) == len(sides(benchmark))
    )
    assert min(len(benchmark.train), len(benchmark.validation), len(benchmark.test)) > 0


def test_a_molecule_has_the_same_side_for_every_enzyme(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("cyp.csv", table(CHAINS[:150]))
    write("other.csv", table([smiles[::-1] if smiles[-1] in "ONF" else smiles for smiles in reversed(CHAINS[50:])]))
    first = sides(cyp(SETTINGS, ask(name="one")))
    second = sides(cyp(replace(SETTINGS, table="other.csv", enzyme="CYP2D6"), ask(name="two")))
    shared = first.keys() & second.keys()
    assert len(shared) == 100
    assert all(first[smiles] == second[smiles] for smiles in shared)


def test_random_is_cold_drug(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("cyp.csv", table(CHAINS))
    assert SETTINGS.split == "cold_drug"
    assert cyp(replace(SETTINGS, split="random"), ask()) == cyp(SETTINGS, ask())


def test_a_scaffold_has_the_same_side_for_every_enzyme(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    rings = sorted({s for n in range(3, 20) for s in (f"CC1{'C' * n}1", f"CCC1{'C' * n}1", f"OC1{'C' * n}1")})
    write("cyp.csv", table(rings[::2]))
    write("other.csv", table(rings[1::2]))
    settings = replace(SETTINGS, split="scaffold")
    first = sides(cyp(settings, ask()))
    second = sides(cyp(replace(settings, table="other.csv", enzyme="CYP2D6"), ask()))
    scaffold_sides: dict[str, set[str]] = {}
    for smiles, side in (first | second).items():
        scaffold_sides.setdefault(scaffold(smiles), set()).add(side)
    assert len(first | second) == len(rings) == 3 * len(scaffold_sides)
    assert all(len(places) == 1 for places in scaffold_sides.values()) and len(set.union(*scaffold_sides.values())) == 3


@pytest.mark.skipif(not DATA.is_dir(), reason="the real tables (../shared/data) are not here")
@pytest.mark.parametrize("split", ["cold_drug", "scaffold"])
def test_no_enzyme_is_tested_on_what_another_is_trained_on(split: str, ask: Callable[..., BenchmarkRequest]) -> None:
    training_keys, test_keys = set(), set()
    for enzyme in ("CYP1A2", "CYP2C9", "CYP2C19", "CYP2D6", "CYP3A4"):
        settings = replace(SETTINGS, split=split, enzyme=enzyme, table=f"cyp/{enzyme.lower()}_inhibitor.csv")
        molecule_sides = sides(cyp(settings, ask(root=str(DATA))))
        keys = (
            molecule_sides
            if split == "cold_drug"
            else {scaffold(smiles): side for smiles, side in molecule_sides.items()}
        )
        training_keys |= {key for key, side in keys.items() if side == "train"}
        test_keys |= {key for key, side in keys.items() if side == "test"}
    assert len(training_keys) > len(test_keys) > 1000 and not training_keys & test_keys


def test_limits_are_stratified_and_seeded(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("cyp.csv", table(CHAINS))
    limited = replace(SETTINGS, train_limit=20, validation_limit=4)
    benchmark = cyp(limited, ask(limit=10))
    assert [len(split) for split in (benchmark.train, benchmark.validation, benchmark.test)] == [20, 4, 10]
    assert benchmark == cyp(limited, ask(limit=10))
    full = cyp(SETTINGS, ask())
    share = sum(example.answer for example in full.test) / len(full.test)
    assert abs(sum(example.answer for example in benchmark.test) - 10 * share) < 1
    assert {example.id for example in benchmark.test} <= {example.id for example in full.test}


def test_rejects_are_kept(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    path: Path = write("cyp.csv", table(CHAINS) + "C1CC,1\nCCO,maybe\n")
    benchmark = cyp(SETTINGS, ask())
    assert [reject.row for reject in benchmark.rejects] == [f"cyp.csv:{len(CHAINS) + 3}", f"cyp.csv:{len(CHAINS) + 2}"]
    path.write_text(table(CHAINS) + "C1CC,1\n" * 20, encoding="utf-8")
    with pytest.raises(InputError, match=f"20 of {len(CHAINS) + 20} rows"):
        cyp(SETTINGS, ask())


def test_textbook_labels_follow_the_blank_of_the_prompt(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("cyp.csv", table(CHAINS))
    assert cyp(SETTINGS, ask(language="textbook")).test[0].labels == ("no", "yes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enzyme": "CYP9Z9"}, "CYP9Z9.*CYP1A2, CYP2C9"),
        ({"labels": {"english": ["same", "same"]}}, "labels.english"),
        ({"prompt": {"english": "{molecule}"}}, "{protein}"),
        ({"prompt": {"latin": "x"}}, "no prompt for language 'english'"),
        ({"test_share": 1.0}, "test_share=1"),
        ({"split": "published"}, "split='published' must be one of random, cold_drug, scaffold"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(
    changes: dict, message: str, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("cyp.csv", table(CHAINS))
    with pytest.raises(ConfigError, match=message):
        cyp(replace(SETTINGS, **changes), ask())


@pytest.mark.parametrize("field", ["train_limit", "validation_limit"])
def test_a_limit_below_one_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}=0"):
        replace(SETTINGS, **{field: 0})


def test_the_request_s_limit_is_checked(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("cyp.csv", table(CHAINS))
    with pytest.raises(ConfigError, match="limit=0"):
        cyp(SETTINGS, ask(limit=0))


@pytest.mark.parametrize(
    ("enzyme", "length"), [("CYP1A2", 516), ("CYP2C9", 490), ("CYP2C19", 490), ("CYP2D6", 497), ("CYP3A4", 503)]
)
def test_enzymes_have_their_published_length_and_the_haem_motif(enzyme: str, length: int) -> None:
    sequence = check_sequence(enzyme_sequence(enzyme))
    assert len(sequence) == length and sequence.startswith("M")
    # FxxGxRxCxG around the cysteine that binds the haem is the signature of the family
    windows = (sequence[start : start + 10] for start in range(length - 9))
    assert any(w[0] == "F" and w[3] == "G" and w[5] == "R" and w[7] == "C" and w[9] == "G" for w in windows)
