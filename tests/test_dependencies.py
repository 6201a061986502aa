"""What a notebook depends on is found by reading, and drawing does not count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmh.dependencies import modules_reached, notebook_code, sources_of
from wmh.study import project_root

PACKAGE = {
    "wmh/__init__.py": "",
    "wmh/images.py": "",
    "wmh/study.py": "",
    "wmh/atlas/__init__.py": "",
    "wmh/atlas/regions.py": "from wmh.images import Image\nTABLE = 'facts/regions.csv'",
    "wmh/atlas/facts/regions.csv": "label\n1",
    "wmh/atlas/facts/unused.csv": "x\n1",
    "wmh/analysis/__init__.py": "",
    "wmh/figures/style.py": "from wmh.analysis import burden",
    "wmh/analysis/burden.py": "",
    "wmh/figures/__init__.py": "from .parts import draw",
    "wmh/figures/parts.py": "from .style import BLUE",
    "wmh/learning/__init__.py": "",
    "wmh/learning/training.py": "def train():\n    from wmh.learning import losses",
    "wmh/learning/losses.py": "import torch",
}


@pytest.fixture
def root(tmp_path) -> Path:
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def reached(root: Path, code: str, drawing: bool = False) -> set[str]:
    found = modules_reached(root, code, drawing)
    return {path.relative_to(root / "wmh").as_posix() for path in found}


def test_modules_are_followed_with_their_packages_and_facts(root):
    assert reached(root, "from wmh.atlas.regions import REGIONS\nimport pandas") == {
        "__init__.py",
        "atlas/__init__.py",
        "atlas/regions.py",
        "atlas/facts/regions.csv",
        "images.py",
    }


def test_a_module_imported_as_a_name_and_one_imported_late_count(root):
    found = reached(root, "from wmh.learning import training as t")
    assert {"learning/training.py", "learning/losses.py"} <= found


def test_a_dotted_import_counts(root):
    assert "images.py" in reached(root, "import wmh.images as images")


def test_drawing_does_not_count_nor_what_it_alone_needs(root):
    code = "from wmh.figures import draw\nfrom wmh.study import load_study"
    assert reached(root, code) == {"__init__.py", "study.py"}


def test_drawing_counts_where_it_is_the_point(root):
    assert {"figures/parts.py", "figures/style.py", "analysis/burden.py"} <= reached(
        root, "from wmh.figures import draw", drawing=True
    )


def test_lines_for_jupyter_alone_are_passed_over(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["not code: ("]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import wmh\n", "!ls"]},
        {"cell_type": "code", "source": "x = 1"},
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert notebook_code(path) == "import wmh\nx = 1"


def test_in_this_package_a_style_trains_nothing():
    training = sources_of(project_root(), "03_train_lesions")
    figures = sources_of(project_root(), "08_figures", drawing=True)
    assert training[0] == "notebooks/03_train_lesions.ipynb"
    assert "wmh/learning/training.py" in training
    assert "wmh/figures/style.py" not in training
    assert "wmh/figures/style.py" in figures


def test_in_this_package_the_pipeline_is_no_part_of_the_results():
    for notebook in ("01_data_preparation", "05_evaluation", "08_figures"):
        assert not [s for s in sources_of(project_root(), notebook) if "pipeline" in s]
