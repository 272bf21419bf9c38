"""What a result depends on in code: the syntax of every module that its makers import, directly or through others.

The modules are found in the source, without importing any. What a registry imports by name is not in the source:
whoever looks an entry up passes the entry's function as well. Versions of other distributions belong in the key, where
they matter; so does the content of what a user gives.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from esmerge.storage.cache import digest

PACKAGE = __name__.partition(".")[0]
DATA_SUFFIXES = (".csv", ".json", ".yaml")  # of files that come with a module
Origins = tuple[tuple[str, Path], ...]  # modules that define functions, with their files
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def closure_digest(*functions: Callable[..., object]) -> str:
    """A hash of the code that functions or classes are made of: part of the key of what they make.

    Comments, layout and docstrings do not count. Data files count that a module names and that lie in a folder
    ``data`` beside it or beside its folder. Files are read once per process: the code that runs is the code that was
    loaded.

    Args:
        functions: from modules of this package, or of others; imports are followed within these packages.

    Raises:
        TypeError: something is not defined in a Python file.
    """
    return _digest(_origins(functions))


def import_closure(*functions: Callable[..., object]) -> dict[str, Path]:
    """Module name -> source file of all that ``closure_digest`` reads, sorted by name."""
    return _closure(_origins(functions))


@cache  # every run of a sweep asks for the same few
def _digest(origins: Origins) -> str:
    return digest({name: _read(path, name).content for name, path in _closure(origins).items()})


def _origins(functions: Iterable[Callable[..., object]]) -> Origins:
    return tuple(sorted({_origin(function) for function in functions}))


def _closure(origins: Origins) -> dict[str, Path]:
    packages = {PACKAGE, *(_top(name) for name, _ in origins)} - {"__main__"}
    sources: dict[str, Path] = {}
    waiting = list(origins)
    while waiting:
        name, path = waiting.pop()
        if name in sources:
            continue
        sources[name] = path
        names = [imported for imported in _read(path, name).imports - set(sources) if _top(imported) in packages]
        waiting += [(imported, source) for imported in names if (source := _source(imported)) is not None]
    return dict(sorted(sources.items()))


@dataclass(frozen=True)
class _Code:
    """A module's syntax and data files, hashed, and all names that it may import."""

    content: tuple[str, ...]
    imports: frozenset[str]


@cache
def _read(path: Path, name: str) -> _Code:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = {prefix for full in (name, *_imported(tree, package)) for prefix in accumulate(full.split("."), _dotted)}
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body.pop(0)
    content = [ast.dump(tree).encode(), *(file.read_bytes() for file in _data_files(tree, path))]
    return _Code(tuple(hashlib.sha256(part).hexdigest() for part in content), frozenset(imports))


def _data_files(tree: ast.Module, path: Path) -> list[Path]:
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = sorted(text for text in texts if text.endswith(DATA_SUFFIXES) and Path(text).name == text)
    candidates = (folder / "data" / name for name in names for folder in (path.parent, path.parents[1]))
    return [path for path in candidates if path.is_file()]


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that a tree imports, wherever in it; of ``from a import b`` a.b, since b may be a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        start = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{start}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for statement in node.orelse:  # the rest is never run
            yield from _imported(statement, package)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imported(child, package)


def _origin(function: Callable[..., object]) -> tuple[str, Path]:
    """The module that defines a function, and its file."""
    while isinstance(function, partial):
        function = function.func
    module = sys.modules.get(str(function.__module__))
    try:
        file = inspect.getsourcefile(module) if module else None
    except TypeError:  # built in
        file = None
    if module is None or file is None:
        raise TypeError(f"{function!r} is not defined in a Python file: expected functions or classes of modules")
    return module.__name__, Path(file)


def _source(name: str) -> Path | None:
    """The file of a module; None where there is none: a folder without code, or a name that is no module."""
    top, *inner = name.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not inner and spec.origin:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder, *inner, "__init__.py"), Path(folder, *inner).with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _top(name: str) -> str:
    return name.partition(".")[0]


def _dotted(start: str, part: str) -> str:
    return f"{start}.{part}"
