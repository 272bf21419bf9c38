"""The house has one direction: a room imports rooms on lower floors only, and no two files import one another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "esmerge"
FLOORS = (  # from the ground; rooms on one floor do not know one another
    ("core",),
    ("storage", "data"),
    ("world", "adapters"),
    ("tasks", "model", "coefficients"),
    ("specialists", "evaluation"),
    ("probe",),
    ("calibration", "baselines"),
    ("merging",),
    ("tracking", "testing"),
    ("report",),
    ("experiment",),
    ("cli",),
)
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    parts = ["esmerge", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever in the file it does so."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            modules |= submodules or {node.module}
    return modules & set(MODULES)


GRAPH = {name: imports(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_floor() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(FLOOR)
    assert all("src" not in name.split(".") for used in GRAPH.values() for name in used)


@pytest.mark.parametrize("name", [name for name in FLOOR])
def test_every_arrow_points_down(name: str) -> None:
    wrong = [
        f"{module} imports {used}"
        for module, targets in GRAPH.items()
        if module.count(".") and room(module) == name
        for used in targets
        if used.count(".") and room(used) != name and FLOOR[room(used)] >= FLOOR[name]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circles() -> None:
    graph = {name: set(targets) for name, targets in GRAPH.items()}
    while free := [name for name, targets in graph.items() if not targets & set(graph)]:
        for name in free:
            del graph[name]
    assert not graph, f"files that import one another, or such files: {', '.join(sorted(graph))}"
