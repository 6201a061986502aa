"""The burden of a whole cohort, training subjects included."""

import numpy as np
import pandas as pd
import pytest

from wmh.analysis.cohort_burden import cohort_burden
from wmh.images import Image, save_image
from wmh.study import load_study

STUDY = """title: Three people
cohort: {source: csv, folder: people.csv}
regions: {atlas: known}
models: {flair: {task: lesions, inputs: flair, steps: 1}}
"""


def test_who_has_no_region_labels_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("WMH_ROOT", str(tmp_path))
    for folder in ("studies", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "studies" / "three.yaml").write_text(STUDY)
    study = load_study(tmp_path / "studies" / "three.yaml")
    grid = Image(np.zeros((4, 4, 4)), np.diag([10.0, 10, 10, 1]))
    lesions = np.zeros((4, 4, 4), np.uint8)
    lesions[0, 0, 0] = 1
    rows = []
    for who, label in (("a", 1), ("b", 1), ("c", 0)):
        mask = save_image(tmp_path / f"{who}.nii.gz", lesions, grid)
        regions = np.full((4, 4, 4), label, np.uint8)
        save_image(study.results / "regions" / f"{who}.nii.gz", regions, grid)
        images = {"flair": mask, "t1": mask, "lesions": mask, "true_regions": None}
        rows.append({"id": who, "split": "test", "scanner": "a", **images, "further": False})
    pd.DataFrame(rows).to_csv(study.results / "cohort.csv", index=False)
    burden = cohort_burden(study)
    assert set(burden["subject"]) == {"a", "b"}
    first = burden[burden["region"] == 1]
    assert first["percent_of_region"].tolist() == pytest.approx([100 / 64] * 2)
