"""The benchmarks' tables by their columns, small, with invented rows; and texts for probes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

ROWS, TEXTS = 60, 330
ENDS = ("O", "N", "C(=O)O", "c1ccccc1", "S")
KINDS = ("steroid", "peptide", "saccharide", "terpenoid", "fatty acid", "flavonoid")
CELL_TYPES = ("Dendritic", "CD14+ Monocyte", "CD19+ B", "CD4+/CD25 T Reg", "CD56+ NK")
ENZYMES = ("1a2", "2c9", "2c19", "2d6", "3a4")
LINES = 12


def molecules(count: int = ROWS) -> list[str]:
    """Chains of carbon with a group at their end, all different."""
    length = -(-count // len(ENDS))
    return [f"{'C' * (1 + row % length)}{ENDS[row // length]}" for row in range(count)]


def proteins(count: int = ROWS, seed: int = 1) -> list[str]:
    """Sequences of 12 to 30 residues."""
    rng = np.random.default_rng(seed)
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    return ["M" + "".join(rng.choice(letters, rng.integers(12, 30))) for _ in range(count)]


def cells(count: int = ROWS, genes: int = 60, seed: int = 2) -> list[str]:
    """Symbols by rank."""
    rng = np.random.default_rng(seed)
    names = [f"GN{number}" for number in range(1, 101)]
    return [" ".join(rng.permutation(names)[:genes]) for _ in range(count)]


def write(root: Path, name: str, /, **columns: Sequence[object]) -> None:
    """One table."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)


def write_tables(root: Path) -> Path:
    """Every table that the paper's suites read."""
    smiles, chains, labels = molecules(), proteins(), [row % 2 for row in range(ROWS)]
    _interactions(root, smiles, chains, labels)
    for enzyme in ENZYMES:
        for kind in ("inhibitor", "substrate"):
            write(root, f"cyp/cyp{enzyme}_{kind}.csv", SMILES=smiles, label=labels)
    _responses(root, smiles[:LINES])
    _retention(root, smiles, chains, labels)
    return root


def write_probes(root: Path) -> None:
    """The authors' folder of texts, and the same as a pool."""
    texts = {
        "molecule": [molecules()[row % ROWS] for row in range(TEXTS)],
        "protein": proteins(TEXTS, seed=3),
        "cell": cells(TEXTS, genes=20, seed=4),
    }
    folder = root / "coefficient_data"
    folder.mkdir(parents=True, exist_ok=True)
    for modality, name in (("molecule", "drug.txt"), ("protein", "protein.txt"), ("cell", "cell_line.txt")):
        (folder / name).write_text("\n".join(texts[modality]) + "\n", encoding="utf-8")
    lines = [json.dumps({modality: values[row] for modality, values in texts.items()}) for row in range(TEXTS)]
    (root / "pool.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _interactions(root: Path, smiles: Sequence[str], chains: Sequence[str], labels: Sequence[int]) -> None:
    third = ROWS // 3
    tables = {
        "dti_human/human_random.csv": "train",
        "dti_bindingdb/bindingdb_subset.csv": "train",
        "dti_biosnap/biosnap_partial.csv": "train_partial",
    }
    for name, train in tables.items():
        split = [train] * third + ["val"] * third + ["test"] * third
        write(root, name, SMILES=smiles, sequence=chains, label=labels, split=split)


def _responses(root: Path, smiles: Sequence[str]) -> None:
    rng = np.random.default_rng(5)
    lines, drugs = [f"LINE{number}" for number in range(LINES)], [f"drug {number}" for number in range(LINES)]
    pairs = [(line, drug) for line in lines for drug in drugs]
    first, second = zip(*pairs, strict=True)
    write(root, "gdsc/gdsc2_pairs.csv", cell_line=first, drug=second, LN_IC50=rng.normal(size=len(pairs)).round(4))
    write(root, "gdsc/drugs.csv", drug=drugs, SMILES=smiles)
    ranked = cells(LINES)
    write(root, "gdsc/cells.csv", cell_line=lines, top200_by_expression=ranked, top200_by_gene_zscore=ranked)
    ids = [1000 + number for number in range(LINES)]
    write(root, "synergy_oneil/drugs.csv", name=drugs, pubchemid=ids, SMILES=smiles)
    write(root, "synergy_oneil/cells.csv", cell_line=lines, gdsc_cells_key=lines, top200_cosmic_genes_by_zscore=ranked)
    couples = [(a, b, line) for index, a in enumerate(ids) for b in ids[index + 1 :] for line in lines[:2]]
    a, b, pair_lines = zip(*couples, strict=True)
    scores = [(-1) ** row * (20.0 + row % 7) for row in range(len(couples))]
    write(root, "synergy_oneil/pairs.csv", cid_a=a, cid_b=b, cell_line=pair_lines, loewe=scores)


def _retention(root: Path, smiles: Sequence[str], chains: Sequence[str], labels: Sequence[int]) -> None:
    rows, split = range(ROWS), ["train"] * ROWS
    write(
        *(root, "molecule/drugbank_approved_properties.csv"),
        SMILES=smiles,
        name=[f"drug {row}" for row in rows],
        id=[f"DB{row:05d}" for row in rows],
        atc=[""] * ROWS,
        atc_name_1=[""] * ROWS,
        molecular_weight=[100.0 + row for row in rows],
        logP=[1.0 + 3.0 * label for label in labels],
        hydrogen_bond_acceptors=[row % 4 for row in rows],
        hydrogen_bond_donors=[1 + 3 * label for label in labels],
    )
    captions = [f"The molecule is a {KINDS[row % len(KINDS)]} that was invented." for row in rows]
    write(root, "molecule/chebi20_captions_val_test.csv", CID=rows, SMILES=smiles, description=captions, split=split)
    write(root, "protein/scop_class.csv", sequence=chains, label=["abcd"[row % 4] for row in rows], split=split)
    write(root, "protein/signalp_binary.csv", sequence=chains, label=labels, split=split)
    write(
        *(root, "cell/pbmc68k_reduced_ranked.csv"),
        cell_id=[f"C{row}-1" for row in rows],
        cell_type=[CELL_TYPES[row % len(CELL_TYPES)] for row in rows],
        n=[100] * ROWS,
        top_genes_by_expression=cells(),
    )
