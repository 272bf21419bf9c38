"""Small benchmarks of every form, drawn from a handful of molecules, proteins and cells."""

from __future__ import annotations

import numpy as np

from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.data.molecules import canonical_smiles

MOLECULES = ("CCO", "CCN", "CCCO", "CCCN", "c1ccccc1", "Cc1ccccc1", "Oc1ccccc1", "CC(=O)O", "CC(=O)N", "OCC", "CCCCCO")
PROTEINS = ("MKTAYIAK", "MKTAYIAKQ", "MKTAYWWW", "GAVLIGAVLI", "GAVLI", "WWYHP", "MK", "GAVLIGAVLIGAVLI")
CELLS = ("ALB TTR", "ALB TTR KRT5", "KRT5 KRT14 GFAP", "SOX2 CD4", "CD4", "TTR ALB")
VALUES = {"molecule": MOLECULES, "protein": PROTEINS, "cell": CELLS}
FORMS = (
    ("molecule",),
    ("protein",),
    ("cell",),
    ("molecule", "protein"),
    ("molecule", "cell"),
    ("molecule", "molecule"),
    ("molecule", "molecule", "cell"),
    ("molecule", "protein", "cell"),
    ("molecule", "molecule", "molecule"),
)
LABELS = (" no", " yes")


def example(name: str, form: tuple[str, ...], values: tuple[str, ...], answer: int = 0, group: str = "") -> Example:
    """``drug : A ; protein : B ; ?`` with an entity for each modality of the form."""
    segments: list = []
    for modality, value in zip(form, values, strict=True):
        segments += [f"{modality} : ", Entity(modality, value), " ; "]
    return Example(name, (*segments, "?"), LABELS, answer, group)


def draw(form: tuple[str, ...], count: int, seed: int, prefix: str) -> tuple[Example, ...]:
    """Random examples; their ids are in random order."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(count)
    return tuple(
        example(f"{prefix}{name:03d}", form, tuple(str(rng.choice(VALUES[m])) for m in form), int(rng.integers(2)))
        for name in names
    )


def benchmark(form: tuple[str, ...], train: int = 12, test: int = 4, seed: int = 0) -> Benchmark:
    """Disjoint splits: what a held-out question asks is in no training example."""
    pool = draw(form, 40 * (train + 2 * test), seed, "x")
    twins: dict[tuple, Example] = {}
    for candidate in pool:
        forms = (
            (e.modality, canonical_smiles(e.value) if e.modality == "molecule" else e.value)
            for e in candidate.entities()
        )
        twins.setdefault(tuple(sorted(forms)), candidate)
    examples = list(twins.values())
    test = min(test, len(examples) // 4)
    splits = {"test": tuple(examples[:test]), "validation": tuple(examples[test : 2 * test])}
    return Benchmark(
        "toy", "Toy", "cross_modal", LABELS, tuple(examples[2 * test : 2 * test + train]), **splits, checksum=""
    )
