"""A digest of the code that a result depends on, computed from what its modules import.

The syntax trees count, without comments, layout and docstrings. Followed are all imports of this package, wherever in
a file they stand, and those of the module that defines the function. Other packages do not count: their versions
belong to the caller's key. What a registry imports by name does not count either: the chosen entry is given as a
function.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = __name__.partition(".")[0]
DATA_SUFFIXES = (".csv", ".json", ".yaml")  # of files that modules read beside themselves


def closure_digest(*functions: Callable[..., Any]) -> str:
    """16 hex digits that change when code changes that one of the functions may run.

    Raises:
        ValueError: a function whose module has no source file.
    """
    modules: set[str] = set()
    waiting = [function.__module__ for function in functions]
    while waiting:
        module = waiting.pop()
        if module not in modules:
            modules.add(module)
            waiting += _imports(module)
    total = hashlib.sha256()
    for module in sorted(modules):
        total.update(f"{module}\0{_digest(module)}\0".encode())
    return total.hexdigest()[:16]


def syntax_digest(tree: ast.AST) -> str:
    """A digest of what code does: its syntax tree without docstrings; the tree loses them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body.pop(0)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@cache
def _source(module: str) -> Path | None:
    """The file of a module; None if there is no such module, or none with Python source."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    path = None if spec is None or spec.origin is None else Path(spec.origin)
    return path if path is not None and path.suffix == ".py" else None


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The package's modules that a module imports, at its top or later."""
    path = _path(module)
    parents = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names = (name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for name in _named(node, parents))
    own = (name for name in dict.fromkeys(names) if name.partition(".")[0] in (PACKAGE, module.partition(".")[0]))
    return tuple(name for name in own if _source(name) is not None)


def _named(node: ast.AST, parents: list[str]) -> Iterator[str]:
    """What an import statement may import: modules, and names that may be submodules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = parents[: len(parents) + 1 - node.level] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def _digest(module: str) -> str:
    """Of a module's code and of the data files that it names."""
    path = _path(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    total = hashlib.sha256()
    for file in _data_files(tree, path):
        total.update(file.read_bytes())
    return total.hexdigest() + syntax_digest(tree)


def _data_files(tree: ast.AST, path: Path) -> list[Path]:
    """Files in a folder ``data`` beside the module, or beside its folder, whose names stand in the module."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = sorted(text for text in texts if text.endswith(DATA_SUFFIXES) and "/" not in text)
    files = (folder / "data" / name for name in names for folder in (path.parent, path.parents[1]))
    return [file for file in files if file.is_file()]


def _path(module: str) -> Path:
    path = _source(module)
    if path is None:
        raise ValueError(f"{module} has no source file: what it makes cannot be kept by its code")
    return path
