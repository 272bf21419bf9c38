"""Wordings that the tests of table benchmarks share."""

from __future__ import annotations

PROMPT = {
    "english": "Molecule {molecule}, protein {protein}. Final answer:",
    "textbook": "drug : {molecule} ; {protein} ? ",
    "brief": "Molecule: {molecule}\nProtein: {protein}",
}
CELL_PROMPT = {
    "english": "Molecule {molecule}, cell {cell}. Final answer:",
    "brief": "Cell: {cell}\nDrug: {molecule}",
}
LABELS = {"english": ["No way", "Yes"], "textbook": ["no", "yes"]}
