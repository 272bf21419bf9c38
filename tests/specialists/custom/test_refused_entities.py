"""A molecule without a conformer and a chain that is too long are counted rejects of a sweep, for all methods alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmarks.miniature.mol_llama import Sizes, write_parts
from benchmarks.miniature.prot2text_v2 import TARGETS, save_release
from rdkit import Chem
from tests.front_door import run_sweep
from tests.specialists.tiny_language_model import write_tables
from tests.standalone.tiny import TEXTS, save_backbone, train_adapter, write_probe

from esmerge.core.errors import InputError
from esmerge.specialists.encoders.mol_llama import inputs
from esmerge.specialists.encoders.mol_llama.conformers import Conformer

BRIDGED = "C1=C2CC1C2"  # no geometry fits its double bond
UNLUCKY = "CCOCC"  # a conformer of it fails here, and nowhere else
LONG = "M" + "AEL" * 40
MAKE = inputs.conformer


def words_of(root: Path, *more: str) -> list[str]:
    backbone = save_backbone(root / "backbone")
    release = save_release(backbone, root / "release")
    molecule = write_parts(root / "parts", Sizes())
    experts = [
        train_adapter(backbone, root / name, TEXTS[name], seed, target_modules=TARGETS)
        for seed, name in enumerate(("mol", "prot"))
    ]
    node = "specialists.encoders"
    return [
        *("specialists=custom", f"specialists.backbone={backbone}"),
        f"specialists.experts.mol={{path: {experts[0]}, modality: molecule}}",
        f"specialists.experts.prot={{path: {experts[1]}, modality: protein}}",
        *(f"+encoder@{node}.molecule=mol_llama", f"{node}.molecule.path={molecule}", f"{node}.molecule.attempts=100"),
        *(f"+encoder@{node}.protein=prot2text_v2", f"{node}.protein.path={release.whole}"),
        *(f"{node}.protein.longest=60", "probe=text", f"probe.file={root / 'probe.jsonl'}"),
        *("benchmark=human", f"benchmark.root={root / 'data'}", "benchmark.shots=1", "benchmark.max_rejects=0.2"),
        *("tracking=disabled", "compute.threads=1", "compute.resamples=10", f"cache={root / 'cache'}"),
        *more,
    ]


def test_refused_entities_are_rejects_of_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(tmp_path / "data", rows=24)
    write_probe(tmp_path / "probe.jsonl")
    table = tmp_path / "data" / "dti_human" / "human_random.csv"
    rows = pd.read_csv(table)
    rows.loc[18, "SMILES"], rows.loc[20, "SMILES"], rows.loc[3, "sequence"] = BRIDGED, UNLUCKY, LONG
    rows.to_csv(table, index=False)
    embedded: list[str] = []

    def failing(smiles: str, molecule: Chem.Mol, seed: int, attempts: int) -> Conformer:
        embedded.append(smiles)
        if smiles == UNLUCKY:
            raise InputError(f"SMILES {smiles!r} has no conformer: injected")
        return MAKE(smiles, molecule, seed, attempts)

    monkeypatch.setattr(inputs, "conformer", failing)
    folder = tmp_path / "sweep"
    words = words_of(tmp_path, "references=[base]")
    assert not run_sweep(monkeypatch, "-m", *words, "method=average,majority", f"hydra.sweep.dir={folder}")

    results = pd.read_csv(folder / "results.csv")
    assert set(results["method"]) == {"average", "majority", "base"} and set(results["n"]) == {6}
    question_ids = {
        run.parent.parent.name: set(pd.read_csv(run)["id"]) for run in folder.glob("*/predictions/human.csv")
    }
    assert len(question_ids) == 3 and len({frozenset(ids) for ids in question_ids.values()}) == 1
    rejects = pd.read_csv(folder / "rejects" / "human.csv").set_index("row")["reason"]
    assert len(rejects) == 3 and not set(rejects.index) & next(iter(question_ids.values()))
    assert "no conformer: RDKit's distance geometry failed 100 times" in rejects["human_random.csv:20"]
    assert "injected" in rejects["human_random.csv:22"] and "121 residues" in rejects["human_random.csv:5"]
    questions = "".join(path.read_text(encoding="utf-8") for path in (folder / "questions").iterdir())
    assert LONG not in questions and BRIDGED not in questions, "not as a solved example either"
    assert embedded.count(BRIDGED) == embedded.count(UNLUCKY) == 1, "a verdict is remembered"

    monkeypatch.setattr(inputs, "conformer", None)  # all that later sweeps need is in the cache
    assert not run_sweep(monkeypatch, "-m", *words, "method=majority", f"hydra.sweep.dir={tmp_path / 'again'}")
    assert set(pd.read_csv(tmp_path / "again" / "results.csv")["n"]) == {6}
