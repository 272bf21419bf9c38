"""The words of the code: names say what a thing is, and do not point at it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "esmerge"
POINTING = frozenset(
    (
        *("found", "one", "ones", "own", "asked", "place", "places", "kept", "known", "made", "told", "said", "wanted"),
        *("given", "seen", "mine", "theirs", "ours", "thing", "things", "another", "chosen", "spent"),
    )
)
MOST_POINTING, MOST_ANY = 0.01, 3.0  # share of bound names; uses of Any per 1,000 lines


def bound_names(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives: variables, arguments, functions, classes, aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


FILES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in FILES.items()}


def test_names_do_not_point() -> None:
    names = [(path, name.strip("_")) for path, tree in TREES.items() for name in bound_names(tree)]
    pointing = Counter(f"{path.relative_to(PACKAGE)}: {name}" for path, name in names if name in POINTING)
    share = sum(pointing.values()) / len(names)
    assert share < MOST_POINTING, f"{share:.1%} of names point: " + ", ".join(f"{n} {c}" for n, c in pointing.items())


def test_types_are_said() -> None:
    uses = Counter(
        path.relative_to(PACKAGE)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "Any"
    )
    density = 1000 * sum(uses.values()) / sum(text.count("\n") for text in FILES.values())
    assert density < MOST_ANY, f"{density:.1f} uses of Any per 1,000 lines: {dict(uses.most_common(20))}"
