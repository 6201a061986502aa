"""Burden counted by hand, its error taken apart, and the burden of a whole cohort."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmh.analysis.burden import cohort_burden, regional_burden, split_error
from wmh.images import Image, ImageError, save_image
from wmh.study import load_study

RNG = np.random.default_rng(0)
STUDY = """title: Three people
cohort: {source: csv, folder: people.csv}
regions: {atlas: known}
models: {flair: {task: lesions, inputs: flair, steps: 1}}
"""


def test_burden_by_hand():
    regions = np.array([1, 1, 1, 1, 20, 20, 36, 0, 0]).reshape(9, 1, 1).astype(np.uint8)
    lesions = np.array([1, 1, 0, 2, 1, 0, 0, 1, 0]).reshape(9, 1, 1)
    table = regional_burden(lesions, regions, voxel_ml=0.5).set_index("region")
    assert len(table) == 36
    assert table.loc[1, ["lesion_ml", "region_ml", "percent_of_region"]].tolist() == [1.0, 2.0, 50]
    assert table.loc[20, ["lesion_ml", "percent_of_region"]].tolist() == [0.5, 50]
    assert table.loc[1, "share_of_lesions"] == 2 / 4  # one lesion voxel lies outside all regions
    assert table.loc[36, ["lesion_ml", "percent_of_region"]].tolist() == [0, 0]
    assert np.isnan(table.loc[2, "percent_of_region"])
    assert (table.loc[1, "side"], table.loc[20, "side"]) == ("left", "right")


def test_no_lesion_has_no_shares():
    regions = np.ones((2, 2, 1), dtype=np.uint8)
    table = regional_burden(np.zeros((2, 2, 1)), regions, 1.0)
    assert table["lesion_ml"].sum() == 0
    assert table["share_of_lesions"].isna().all()


def test_shapes_must_agree():
    with pytest.raises(ImageError):
        regional_burden(np.zeros((2, 2, 1)), np.zeros((2, 2, 2), dtype=np.uint8), 1.0)


@given(st.integers(0, 10_000))
def test_parts_of_the_error_add_up(seed):
    rng = np.random.default_rng(seed)
    true_lesions, lesions = rng.integers(0, 2, (2, 4, 4, 3))
    true_regions, regions = rng.integers(0, 37, (2, 4, 4, 3)).astype(np.uint8)
    parts = split_error(true_lesions, true_regions, lesions, regions, 0.1)
    burden = [
        regional_burden(a, b, 0.1)["lesion_ml"]
        for a, b in ((lesions, regions), (true_lesions, true_regions))
    ]
    assert parts["error_ml"].to_numpy() == pytest.approx((burden[0] - burden[1]).to_numpy())
    together = parts["from_lesions_ml"] + parts["from_regions_ml"]
    assert together.to_numpy() == pytest.approx(parts["error_ml"].to_numpy())


def test_an_error_on_one_side_is_blamed_on_that_side():
    true_lesions, lesions = RNG.integers(0, 2, (2, 4, 4, 3))
    true_regions, regions = RNG.integers(1, 37, (2, 4, 4, 3)).astype(np.uint8)
    wrong_lesions = split_error(true_lesions, true_regions, lesions, true_regions, 1.0)
    assert (wrong_lesions["from_regions_ml"] == 0).all()
    assert wrong_lesions["error_ml"].abs().sum() > 0
    wrong_regions = split_error(true_lesions, true_regions, true_lesions, regions, 1.0)
    assert (wrong_regions["from_lesions_ml"] == 0).all()
    assert wrong_regions["error_ml"].sum() == 0  # every lesion is in some region


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
