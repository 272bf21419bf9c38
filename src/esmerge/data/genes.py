"""Gene symbols, and what becomes of them on the way through Excel, R and Ensembl.

Excel turns symbols into dates (SEPT1 into 1-Sep) and numbers (2310009E13Rik, RIKEN clones, into 2.31E+19): Ziemann et
al., Genome Biology 17 (2016) 177. The genes that it took for dates were renamed: Bruford et al., Nature Genetics 52
(2020) 754. Such forms are no symbols any more; they are refused with the gene that they probably were.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

from esmerge.core.errors import InputError

# Capitals, digits and the marks that occur in HGNC symbols and in R's form of them (HLA-A, MT-ND1, HLA.DRA, C6orf48).
HGNC = r"[A-Z0-9][A-Z0-9.@_/-]*(orf[0-9]+[A-Z0-9.-]*)?"
# Names that real count matrices hold beside them: clones (XXbac-BPG252P9.10, bP-21264C1.2, Em:AC005003.4), families of
# RNA (Metazoa_SRP, 5S_rRNA, snoU13, uc_338, hsa-mir-21) and RIKEN clones (2310009E13Rik).
OTHERS = (
    r"(?=[^.:_-]*[A-Z0-9])[A-Za-z0-9]+[-_.:](?=.*[A-Z])[A-Za-z0-9._-]+",
    r"sno[A-Z0-9][A-Za-z0-9.-]*",
    r"uc_\d+",
    r"[a-z]{3}-(mir|let|miR)-[a-z0-9-]+",
    r"\d{7}[A-Z]\d{2}Rik\d?",
)
SYMBOL = re.compile("|".join(f"({pattern})" for pattern in (HGNC, *OTHERS)))
LETTER = re.compile(r"[A-Za-z]")
ENSEMBL = re.compile(r"ENS[A-Z]{0,6}[GTPE]\d{11}(\.\d+)?(_PAR_Y)?")
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|[+-]?\d*\.\d+([eE][+-]?\d+)?")
MISSING = frozenset(("NA", "N/A", "#N/A", "NAN", "NULL", "NONE", "NIL", "-", "#NAME?", "#REF!", "#VALUE!"))
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MONTH = "|".join([*MONTHS, "Sept", "March"])
DAY_MONTH = re.compile(rf"(?P<day>\d{{1,2}})[-./ ]?(?P<month>{MONTH})([-./ ]\d{{2,4}})?", re.IGNORECASE)
MONTH_DAY = re.compile(rf"(?P<month>{MONTH})[-./ ](?P<day>\d{{1,2}})", re.IGNORECASE)
ISO = re.compile(r"(?P<year>\d{4})[-/.](?P<number>\d{1,2})[-/.](?P<day>\d{1,2})([T ].*)?")
SLASHED = re.compile(r"(?P<number>\d{1,2})[/.](?P<day>\d{1,2})[/.]\d{2,4}")
SERIAL = re.compile(r"\d{5}(\.0)?")  # of a day, as Excel counts them
EPOCH = date(1899, 12, 30)  # day 0 of Excel's count, after the leap day of 1900 that it invented
YEARS = range(1990, 2041)  # in which spreadsheets were written
GENES = (  # month, days, the symbol that is read as such a date, and the gene's name now
    (3, range(1, 12), "MARCH{}", "MARCHF{}"),
    (3, range(1, 3), "MARC{}", "MTARC{}"),
    (4, range(1, 4), "APR-{}", ""),
    (9, range(1, 15), "SEPT{}", "SEPTIN{}"),
    (9, range(15, 16), "SEP{}", "SELENOF"),
    (10, range(1, 12), "OCT{}", "a POU family gene"),
    (12, range(1, 2), "DEC{}", "DELEC1"),
    (12, range(2, 3), "DEC{}", "BHLHE41"),
)


def check_gene(symbol: str) -> None:
    """Raise ``InputError`` unless this is a gene symbol; the reason names the form and, where it can, the gene."""
    reason = _reason(symbol)
    if reason:
        raise InputError(reason)


def _reason(symbol: str) -> str | None:
    """Why this is no gene symbol; None if it is one."""
    if symbol.upper() in MISSING:
        return "it stands for a missing value: remove it, or the cell"
    if ENSEMBL.fullmatch(symbol):
        return "it is an Ensembl id, but symbols are wanted: map ids to HGNC symbols first"
    month_day = _month_and_day(symbol)
    if month_day is not None:
        return _date(*month_day)
    if NUMBER.fullmatch(symbol):
        return _number(symbol)
    return (
        None
        if SYMBOL.fullmatch(symbol) and LETTER.search(symbol)
        else "expected a symbol in capitals, e.g. TP53 or C6orf48"
    )


def _month_and_day(symbol: str) -> tuple[int, int] | None:
    for pattern in (DAY_MONTH, MONTH_DAY):
        match = pattern.fullmatch(symbol)
        if match:
            return [name.lower() for name in MONTHS].index(match["month"][:3].lower()) + 1, int(match["day"])
    match = ISO.fullmatch(symbol) or SLASHED.fullmatch(symbol)
    if match and 1 <= int(match["number"]) <= 12:
        return int(match["number"]), int(match["day"])
    if SERIAL.fullmatch(symbol):
        day = EPOCH + timedelta(days=int(symbol[:5]))
        return (day.month, day.day) if day.year in YEARS else None
    return None


def _date(month: int, day: int) -> str:
    names = [(old.format(day), new.format(day)) for at, days, old, new in GENES if at == month and day in days]
    likely = " or ".join(f"{old} (now {new})" if new else old for old, new in names)
    fault = f"a spreadsheet made a date of it ({day} {MONTHS[month - 1]})"
    return f"{fault}; it was probably {likely}: restore the symbol" if likely else f"{fault}: restore the symbol"


def _number(symbol: str) -> str:
    if "E" in symbol.upper():
        return "a spreadsheet made a number of it; it was probably a RIKEN clone such as 2310009E13Rik: restore it"
    return "it is a number, such as an Entrez id or a count: symbols are wanted, map ids to HGNC symbols first"
