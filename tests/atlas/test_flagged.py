"""Notebook 2 shows who is flagged: its own cells, run on three tiny subjects."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from wmh.atlas.labelling import fits_note, fits_to_look_at
from wmh.cohorts.cohort import Subject
from wmh.images import Image, save_image
from wmh.settings import CohortSettings
from wmh.study import Study, project_root

ONE_MODEL = {"flair": {"task": "lesions", "inputs": "flair", "steps": 1}}

NOTEBOOK = project_root() / "notebooks" / "02_atlas_registration.ipynb"
SHAPE = (16, 20, 12)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Three subjects with images and region labels, and nothing else."""
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    cohort = CohortSettings(source="challenge", folder="data")
    study = Study(name="mine", title="Mine", cohort=cohort, models=ONE_MODEL)
    t1, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    t1[3:13, 3:17, 1:11] = 100
    labels[5:8, 5:15, 2:10], labels[8:11, 5:15, 2:10] = 18, 1
    grid = Image(t1, np.diag([3.0, 3.0, 4.0, 1.0]))
    for name in "abc":
        save_image(tmp_path / f"{name}_T1.nii.gz", t1 + np.arange(12, dtype=np.float32), grid)
        save_image(study.results / "regions" / f"{name}.nii.gz", labels, grid)
    return study


def subject(folder, name: str) -> Subject:
    t1 = folder / f"{name}_T1.nii.gz"
    return Subject(id=name, split="test", scanner="utrecht_philips_3t", flair=t1, t1=t1)


def cells_with(*texts: str) -> list[str]:
    """The code cells of notebook 2 that hold these texts, in order."""
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"]]
    return [next(cell for cell in cells if text in cell) for text in texts]


def test_labels_that_were_not_registered_are_not_judged():
    fits = pd.DataFrame({"id": list("abc"), "white_matter_dice": np.nan, "outlier": False})
    assert fits_note(fits).startswith("No atlas was registered")
    assert fits_to_look_at(fits) == {}


@pytest.mark.parametrize("doubt", [None, "white matter and atlas do not fit well; look at it"])
def test_notebook_2_draws_a_flagged_subject_and_only_a_flagged_one(study, tmp_path, doubt):
    fits = pd.DataFrame(
        {
            "id": list("abc"),
            "scanner": "utrecht_philips_3t",
            "white_matter_dice": [0.8, 0.7, 0.9],
            "border_contrast": [1.5, 0.2, 1.6],
            "mean_region_dice": np.nan,
            "robust_z": [0.0, -4.0, 0.5],
            "doubt": [None, doubt, None],
            "outlier": [False, doubt is not None, False],
        }
    )
    shown = []
    imports, flagging, drawing = cells_with("import pandas", "fits_note(", "fits_to_look_at(fits)")
    names = {}
    exec(imports, names)
    subjects = [subject(tmp_path, name) for name in "abc"]
    names |= {"fits": fits, "study": study, "subjects": subjects, "display": shown.append}
    exec(flagging, names)
    exec(drawing, names)
    headings = [item.data for item in shown if not isinstance(item, Figure)]
    assert f"{int(doubt is not None)} fits are flagged." in headings[0]
    assert ("Flagged (1) fit: subject b" in headings) == (doubt is not None)
    pictures = [item for item in shown if isinstance(item, Figure)]
    assert len(pictures) == 3 + (doubt is not None)
    for axes in pictures[-1].axes:
        image, colours = axes.get_images()
        assert colours.get_array().shape[-1] == 4 and np.asarray(colours.get_alpha()).any()
        assert colours.get_array().shape[:2] == image.get_array().shape[:2]
    assert len(pictures[-1].axes) == 5
