"""Every notebook opens the same way, is short in its cells, and is stored without outputs."""

from __future__ import annotations

import ast
import json

import pytest

from wmh.dependencies import modules_reached, notebook_code
from wmh.pipeline.stages import NOTEBOOKS, TRAINING_NOTEBOOKS
from wmh.study import project_root

ROOT = project_root()
LONGEST_CELL = 20
LONGEST_FUNCTION = 4


def cells_of(name: str, kind: str | None = None) -> list[dict]:
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in cells if kind in (None, cell["cell_type"])]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code_of(cell: dict) -> ast.Module:
    lines = source(cell).splitlines()
    return ast.parse("\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))))


def is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_the_story_has_these_notebooks_and_no_others():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == list(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
class TestNotebook:
    def test_opens_with_its_number_as_title_and_what_it_asks(self, name):
        opening = source(cells_of(name)[0]).splitlines()
        assert cells_of(name)[0]["cell_type"] == "markdown"
        assert opening[0].startswith(f"# {int(name[:2])} ")
        assert opening[2].startswith("*")

    def test_has_a_parameters_cell_with_the_study(self, name):
        tagged = [
            cell
            for cell in cells_of(name, "code")
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        assert len(tagged) == 1
        given = {node.targets[0].id for node in code_of(tagged[0]).body}
        of_training = {"study", "model", "repeat"}
        assert given == (of_training if name in TRAINING_NOTEBOOKS else {"study"})

    @pytest.mark.parametrize("folder", ["nowhere", "notebooks", "wmh/figures"])
    def test_finds_its_study_from_any_folder(self, name, folder, tmp_path, monkeypatch):
        """As ``papermill`` elsewhere and JupyterLab in any folder of the checkout run it."""
        monkeypatch.delenv("WMH_ROOT", raising=False)
        monkeypatch.chdir(tmp_path if folder == "nowhere" else ROOT / folder)
        imports, parameters, *_ = map(source, cells_of(name, "code"))
        scope: dict = {}
        exec(f"{imports}\n{parameters}\nstudy = load_study(study)", scope)
        assert scope["study"].results == ROOT / "results" / "demo"

    def test_is_stored_without_outputs(self, name):
        for cell in cells_of(name, "code"):
            assert cell["outputs"] == []
            assert cell["execution_count"] is None

    def test_has_no_long_cell(self, name):
        long = [c for c in cells_of(name, "code") if len(source(c).splitlines()) > LONGEST_CELL]
        assert [source(cell) for cell in long] == []

    def test_imports_in_its_first_code_cell_only(self, name):
        first, *others = cells_of(name, "code")
        assert all(is_import(node) for node in code_of(first).body)
        late = [source(c) for c in others if any(map(is_import, ast.walk(code_of(c))))]
        assert late == []

    def test_defines_no_class_and_no_function_of_more_than_a_few_lines(self, name):
        tree = ast.parse(notebook_code(ROOT / "notebooks" / f"{name}.ipynb"))
        for node in ast.walk(tree):
            assert not isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION

    def test_asks_for_the_kernel_that_every_environment_has(self, name):
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"

    def test_reaches_only_modules_that_are_there(self, name):
        code = notebook_code(ROOT / "notebooks" / f"{name}.ipynb")
        named = {
            node.module
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.ImportFrom) and node.module.startswith("wmh")
        }
        reached = {
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in modules_reached(ROOT, code, drawing=True)
        }
        assert named <= reached
