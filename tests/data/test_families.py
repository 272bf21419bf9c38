from __future__ import annotations

import numpy as np
import pytest

from esmerge.data.families import protein_families

RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def mutated(sequence: str, share: float, rng: np.random.Generator) -> str:
    letters = np.array(list(sequence))
    mask = rng.random(len(letters)) < share
    letters[mask] = rng.choice(RESIDUES, mask.sum())
    return "".join(letters)


def clan(rng: np.random.Generator, share: float, size: int = 4) -> list[str]:
    ancestor = "".join(rng.choice(RESIDUES, 300))
    return [mutated(ancestor, share, rng) for _ in range(size)]


def test_relatives_are_one_family_and_strangers_are_not() -> None:
    rng = np.random.default_rng(0)
    clans = [clan(rng, 0.15) for _ in range(5)]
    families = protein_families([sequence for members in clans for sequence in members], 0.12)
    numbers = [{families[sequence] for sequence in members} for members in clans]
    assert all(len(members) == 1 for members in numbers) and len(set.union(*numbers)) == 5


def test_the_order_does_not_matter_and_a_fragment_belongs_to_its_protein() -> None:
    rng = np.random.default_rng(1)
    members = clan(rng, 0.1)
    sequences = [*members, members[0][:60], "".join(rng.choice(RESIDUES, 200))]
    families = protein_families(sequences, 0.12)
    assert families == protein_families(sequences[::-1], 0.12)
    assert families[members[0][:60]] == families[members[0]] != families[sequences[-1]]


@pytest.mark.parametrize(("shared", "count"), [(0.9, 4), (0.0, 1)])
def test_the_threshold_decides(shared: float, count: int) -> None:
    members = clan(np.random.default_rng(2), 0.15)
    assert len(set(protein_families(members, shared).values())) == count
