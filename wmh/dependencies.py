"""Files of the package that a notebook or a module depends on: modules, and their tables of facts.

They are found by the standard library's ``modulefinder``, which compiles sources without running
them. Modules that only draw are left out unless asked for: a new figure style must not cause a new
training.
"""

from __future__ import annotations

import json
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

from wmh.files import fingerprint
from wmh.results import FIGURES

DRAWING, PRINTING = "wmh.figures", "wmh.figures.printed"


def sources_of(root: Path, notebook: str, drawing: bool = False) -> list[str]:
    """The notebook and all files of the package that it depends on, relative to ``root``.

    ``drawing`` says whether modules that only draw count.
    """
    path = root / "notebooks" / f"{notebook}.ipynb"
    sources = [path, *modules_reached(root, notebook_code(path), drawing)]
    return [source.relative_to(root).as_posix() for source in sources]


def modules_reached(root: Path, code: str, drawing: bool = False) -> list[Path]:
    """Files of the package below ``root`` that ``code`` imports, and the facts they name, sorted.

    Imports count at any depth, also those inside functions.
    """
    figures = {f"{DRAWING}.{path.stem}" for path in root.glob("wmh/figures/*")}
    if drawing:  # each figure's module is imported by its name, when it is drawn
        code = "\n".join([code, *(f"import {DRAWING}.{name[3:]}" for name in FIGURES)])
    finder = ModuleFinder([str(root)], excludes=[] if drawing else figures - {PRINTING})
    finder.scan_code(compile(code, "code", "exec"), finder.add_module("__main__"))
    if not drawing:  # the folder itself is reached through the module that prints
        finder.modules.pop(DRAWING, None)
    modules = [Path(module.__file__) for module in finder.modules.values() if module.__file__]
    texts = [module.read_text() for module in modules]
    facts = [f for f in root.glob("wmh/**/facts/*") if any(f.name in text for text in texts)]
    return sorted(modules + facts)


@cache
def code_of(module: str) -> str:
    """A hash of a module of this package and of all modules it depends on, without drawing."""
    return fingerprint(modules_reached(Path(__file__).parents[1], f"import {module}"))


def notebook_code(path: Path) -> str:
    """The code cells of a notebook as one text, without the lines that only Jupyter reads."""
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n".join(texts).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
