"""Gene symbols as Excel, R and Ensembl leave them."""

from __future__ import annotations

import pytest

from esmerge.core.errors import InputError
from esmerge.data.sequences import gene_list

SEPT1 = r"date of it \(1 Sep\); it was probably SEPT1 \(now SEPTIN1\)"
MARCH2 = r"date of it \(2 Mar\); it was probably MARCH2 \(now MARCHF2\) or MARC2 \(now MTARC2\)"


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        *(
            (form, SEPT1)
            for form in ("SEP-01", "1-Sep", "Sep-1", "01.Sep", "44075", "44075.0", "2020-09-01", "9/1/2020")
        ),
        *((form, MARCH2) for form in ("2-Mar", "MAR-02", "2-Mar-20", "43892", "2020-03-02T00:00:00")),
        ("15-Sep", r"SEP15 \(now SELENOF\)"),
        ("1-Dec", r"DEC1 \(now DELEC1\)"),
        ("4-Oct", "OCT4"),
        ("7-Jul", r"date of it \(7 Jul\): restore"),
        ("2.31E19", "RIKEN clone such as 2310009E13Rik"),
        ("2.31E+19", "RIKEN clone"),
        ("7157", "Entrez id.*symbols are wanted"),
        ("0.5", "is a number"),
        *((form, "missing value") for form in ("NA", "nan", "#N/A", "NULL", "#NAME?")),
        ("ENSG00000141510.16", "Ensembl id, but symbols are wanted"),
        ("ENSG00000002586_PAR_Y", "Ensembl id"),
        ("ENSMUSG00000059552", "Ensembl id"),
    ],
)
def test_what_a_program_made_of_a_symbol_is_refused_with_the_likely_gene(symbol: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"at position 2: .*{reason}") as error:
        gene_list(f"TP53 {symbol} EGFR")
    assert repr(symbol) in str(error.value)


@pytest.mark.parametrize(
    "symbols",
    [
        "XXbac-BPG252P9.10 RP11-34P13.7 CTD-2006C1.2 AC004556.1 LL22NC03-2H8.5 bP-21264C1.2 Em:AC005003.4",
        "5S_rRNA Y_RNA Metazoa_SRP snoU13 uc_338 hsa-mir-21 7SK U3 2310009E13Rik",
        "HLA-DRA HLA.DRA MT-ND1 NKX2-1 C6orf48 C10orf54 IGHV3OR16-9 T",
        "SEPT1 SEPTIN9 MARCH1 MARCHF1 MARC1 DEC1 OCT4 MAY1 SEP15",
    ],
)
def test_unusual_symbols_that_real_tables_hold_pass(symbols: str) -> None:
    assert gene_list(symbols) == symbols
