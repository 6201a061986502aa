"""The rooms of the package import downwards only."""

from __future__ import annotations

import ast

import pytest

from wmh.study import project_root

ROOMS = (
    ("files", "encoders", "results"),
    ("settings", "dependencies"),
    ("study",),
    ("images", "cores", "provenance"),
    ("ready",),
    ("atlas",),
    ("cohorts",),
    ("phantom",),
    ("learning",),
    ("analysis",),
    ("figures",),
    ("pages",),
    ("predict",),
    ("pipeline",),
    ("cli",),
)
"""From the ground up."""

FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
PACKAGE = project_root() / "wmh"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_from_the_floors_below(module):
    room = module.parts[0].removesuffix(".py")
    if room == "__init__":
        return
    imported = rooms_of(ast.parse((PACKAGE / module).read_text()))
    above = {other for other in imported - {room} if FLOOR[other] >= FLOOR[room]}
    assert not above


def rooms_of(tree: ast.Module) -> set[str]:
    """Every room that a module imports from, also late."""
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "wmh":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            rooms |= {parts[1] for parts in names if parts[0] == "wmh" and len(parts) > 1}
    return rooms - {"__version__"}
