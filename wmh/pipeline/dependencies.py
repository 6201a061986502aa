"""What a notebook depends on: the modules of the package it reaches, and their tables of facts.

Found by reading the source (``ast``), without importing anything. Modules that only draw are left
out, except where drawing is the point: a new figure style must not train a network again.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "wmh"
FACT_SUFFIXES = (".csv", ".json", ".npz", ".yaml")
DRAWING, PRINTING = "wmh.figures", "wmh.figures.printed"


def sources_of(root: Path, notebook: str, drawing: bool = False) -> list[str]:
    """The notebook and all files of the package that it depends on, relative to ``root``.

    ``drawing`` says whether modules that only draw count.
    """
    path = root / "notebooks" / f"{notebook}.ipynb"
    sources = {path, *modules_reached(root, notebook_code(path), drawing)}
    return [source.relative_to(root).as_posix() for source in sorted(sources)]


def modules_reached(root: Path, code: str, drawing: bool = False) -> set[Path]:
    """Files of the package that ``code`` imports, directly or not, and the facts they read."""
    reached: set[Path] = set()
    waiting = list(_imports(ast.parse(code), package=""))
    while waiting:
        path = _module_file(root, name := waiting.pop())
        if path is None or path in reached or (not drawing and _only_draws(name)):
            continue
        reached.add(path)
        tree = ast.parse(path.read_text())
        reached |= _facts(root, tree)
        waiting += _imports(tree, package=name if path.name == "__init__.py" else _parent(name))
    return reached


def notebook_code(path: Path) -> str:
    """The code cells of a notebook as one text, without the lines that only Jupyter reads."""
    cells = json.loads(path.read_text())["cells"]
    lines = [
        line
        for cell in cells
        if cell["cell_type"] == "code"
        for line in "".join(cell["source"]).splitlines()
    ]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module that a tree may import, and the packages around each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for _ in range(node.level - 1):
                package = _parent(package)
            if node.level:
                base = f"{package}.{base}".rstrip(".")
            yield from _with_parents(base)
            for alias in node.names:  # the name may be a module itself
                yield f"{base}.{alias.name}"


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _module_file(root: Path, name: str) -> Path | None:
    """The file of a module of the package; None for a name that is none."""
    if name.split(".")[0] != PACKAGE:
        return None
    place = root.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _only_draws(name: str) -> bool:
    return name.startswith(DRAWING) and name != PRINTING


def _facts(root: Path, tree: ast.AST) -> set[Path]:
    """Files of the package that a module names, such as ``"refined_regions.csv"``."""
    names = {
        Path(node.value).name
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.endswith(FACT_SUFFIXES)
    }
    return {
        path for path in (root / PACKAGE).rglob("facts/*") if path.name in names and path.is_file()
    }


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
