"""Molecules as small drawings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from esmerge.core.errors import InputError
from esmerge.data.molecules import canonical_smiles

WIDTH, HEIGHT = 220, 150  # pixels
ELEMENT = re.compile(r"<(?!\?|!|/|svg)[^>]*>")
PATH = re.compile(r"<path (?:class='[^']*' )?d='([^']*)' (style='[^']*'|fill='[^']*')\s*/>")
SPACES = re.compile(r"\s*([MLQCZ,])\s*")  # around the letters of a path
HEAD = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
LOOKED_AT, SHARE = 50, 0.9  # values of a modality, and how many of them must be molecules


@lru_cache(maxsize=4_000)
def drawing(smiles: str) -> str | None:
    """The molecule as SVG on a transparent ground; None if RDKit cannot read or draw it."""
    try:
        molecule = Chem.MolFromSmiles(canonical_smiles(smiles))
        canvas = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT)
        canvas.drawOptions().clearBackground = False  # type: ignore[assignment]  # RDKit's stub is wrong
        rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
        canvas.FinishDrawing()
    except (InputError, RuntimeError, ValueError):
        return None
    return compact(str(canvas.GetDrawingText()))


def compact(svg: str) -> str:
    """RDKit's drawing at a third of its length: lines and letters of one style as one path.

    A drawing that has more than paths stays as it is.
    """
    elements = ELEMENT.findall(svg)
    matches = [PATH.fullmatch(element) for element in elements]
    by_style: dict[str, list[str]] = {}
    for match in matches:
        if match is None:
            return svg
        by_style.setdefault(match[2], []).append(SPACES.sub(r"\1", match[1].strip()))
    paths = [f"<path {style} d='{''.join(lines)}'/>" for style, lines in by_style.items()]
    return f"{HEAD}{''.join(paths)}</svg>"


def drawn_modalities(entities: Iterable[tuple[str, str]]) -> set[str]:
    """Modalities whose values are SMILES: nine in ten of the first fifty. Sequences and gene lists are none.

    Args:
        entities: modality and value.
    """
    values: dict[str, list[str]] = {}
    for modality, value in entities:
        values.setdefault(modality, []).append(value)
    return {modality for modality, several in values.items() if _share(several[:LOOKED_AT]) >= SHARE}


def _share(values: list[str]) -> float:
    return sum(_is_molecule(value) for value in values) / len(values)


def _is_molecule(value: str) -> bool:
    try:
        canonical_smiles(value)
    except InputError:
        return False
    return True
