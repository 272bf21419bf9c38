"""Cells of the embedded world: expression of real gene symbols, shown as the top genes in text.

Each lineage has two variants; a variant raises some modules of genes, and every module belongs to several variants.
"""

from __future__ import annotations

import numpy as np

from esmerge.core.rng import generator
from esmerge.world.world import KINDS, SUBTYPES, World

MODULE_GENES = (
    ("ALB", "APOA1", "APOB", "TTR", "SERPINA1", "FGB", "TF", "HP", "CYP3A5", "AHSG"),
    ("KRT5", "KRT14", "KRT1", "KRT10", "DSP", "PKP1", "LAMB3", "COL17A1", "TP63", "SFN"),
    ("SFTPC", "SFTPB", "NAPSA", "NKX2-1", "SCGB1A1", "AGER", "HOPX", "MUC1", "LAMP3", "SLC34A2"),
    ("NPHS1", "NPHS2", "UMOD", "AQP2", "SLC12A1", "PAX8", "CDH16", "LRP2", "CUBN", "KL"),
    ("GFAP", "AQP4", "S100B", "SOX2", "OLIG2", "MBP", "PLP1", "NES", "MAP2", "SYP"),
    ("CD3D", "CD3E", "CD4", "CD8A", "CD19", "MS4A1", "PTPRC", "CD14", "LYZ", "IL7R"),
    ("MKI67", "PCNA", "TOP2A", "CDK1", "CCNB1", "CCNA2", "BIRC5", "AURKA", "PLK1", "BUB1"),
    ("HSPA1A", "HSPA5", "HSP90AA1", "DNAJB1", "HSPB1", "DDIT3", "ATF4", "XBP1", "CALR", "PDIA4"),
    ("LDHA", "PGK1", "ENO1", "GAPDH", "ALDOA", "HK2", "SLC2A1", "VEGFA", "CA9", "PKM"),
    ("VIM", "CDH2", "FN1", "ZEB1", "SNAI2", "TWIST1", "COL1A1", "COL1A2", "SPARC", "LOX"),
    ("STAT1", "IRF1", "IFIT1", "IFIT3", "ISG15", "MX1", "OAS1", "GBP1", "CXCL10", "B2M"),
    ("RPS6", "RPL3", "RPL13", "EEF1A1", "RPS12", "NPM1", "NCL", "FBL", "RPLP0", "RPS23"),
)
GENES = tuple(gene for module in MODULE_GENES for gene in module)
RAISED = 3  # modules raised in a variant
RISE = 2.5
NOISE = 0.8
SHOWN = 20  # genes a full cell shows
MARKERS = 6  # genes a short marker list shows


def variants(world: World) -> np.ndarray:
    """(lineage, variant, RAISED) module numbers; each module is raised in equally many variants, no two alike."""
    rng = generator(world.seed, "variants")
    modules, rows = len(MODULE_GENES), KINDS * SUBTYPES
    while True:
        columns = [rng.permutation(np.repeat(np.arange(modules), rows // modules)) for _ in range(RAISED)]
        table = np.stack(columns, axis=1)
        sets = {tuple(sorted(row)) for row in table}
        if len(sets) == rows and all(len(set(row)) == RAISED for row in table):
            return table.reshape(KINDS, SUBTYPES, RAISED)


def draw_cell(kind: int, subtype: int, rng: np.random.Generator, table: np.ndarray, shown: int = SHOWN) -> str:
    """The ``shown`` most expressed genes of one random cell, highest first, separated by blanks."""
    width = len(MODULE_GENES[0])
    expression = rng.normal(0.0, NOISE, size=len(GENES))
    for module in table[kind, subtype]:
        expression[module * width : (module + 1) * width] += RISE
    return " ".join(GENES[index] for index in np.argsort(-expression)[:shown])


def draw_markers(kind: int, subtype: int, rng: np.random.Generator, table: np.ndarray) -> str:
    """A short marker list: genes of the raised modules, in random order."""
    width = len(MODULE_GENES[0])
    raised = (table[kind, subtype][:, None] * width + np.arange(width)).ravel()
    return " ".join(GENES[index] for index in rng.permutation(raised)[:MARKERS])
