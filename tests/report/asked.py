"""A sweep whose questions were stored, with texts that would break a page that did not escape them."""

from __future__ import annotations

from pathlib import Path

from tests.report.synthetic import SUITE, add_run, fail_run

from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.tracking.questions import write_questions

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">&amp;"
MOLECULES = ("CCO", "c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O", "[O-][N+](=O)c1ccccc1")
PROTEINS = ("MKTAYIAKQR", "GAVLIMCFYW", "CCNCC")  # the last is a valid SMILES, too
LABELS = (" no", " yes")
QUESTIONS = 40


def asked_sweep(folder: Path) -> Path:
    """Base model, average, ES and a failed run, on a cross-modal and a retention benchmark."""
    terms = {"questions": write_questions(folder, benchmark())}
    suite = {name: SUITE[name] for name in ("drug_protein", "molecule_class")}
    for method, rate in {"base": 0.5, "average": 0.7, "es": 0.8}.items():
        axes = {"granularity": "joint", "merge_space": "factors"} if method == "es" else {}
        add_run(
            folder, method, method, rate, n=QUESTIONS, suite=suite, key=method, terms=terms,
            config={"method": {"scale": rate, "note": HOSTILE}, "probe": {"samples": 330}}, **axes,
        ).write_provenance({"version": "1.2.3", "libraries": {"torch": "2.9"}, "time": method})  # fmt: skip
    fail_run(folder, "ties", ValueError(HOSTILE))
    return folder


def benchmark() -> Benchmark:
    """Questions that each name a molecule, a protein and a cell."""
    examples = []
    for i in range(QUESTIONS):
        molecule, protein = MOLECULES[i % len(MOLECULES)], PROTEINS[i % len(PROTEINS)]
        entities = (
            Entity("molecule", molecule),
            " binds ",
            Entity("protein", protein),
            " in ",
            Entity("cell", "ALB TTR"),
        )
        examples.append(Example(f"q{i}", ("Does ", *entities, f"? {HOSTILE}"), LABELS, i % 2))
    return Benchmark("drug_protein", "", "cross_modal", LABELS, (), (), tuple(examples), "0")
