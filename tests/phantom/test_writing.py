"""The simulated cohort on disk: layout, resuming, redoing, refusing."""

import hashlib

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from wmh.cli import app
from wmh.cohorts.check import read_subject
from wmh.cohorts.cohort import CohortError, Found
from wmh.cohorts.sources import find_challenge
from wmh.images import ImageError
from wmh.phantom.lesion_load import read_statistics
from wmh.phantom.writing import plan_cohort, simulate_cohort, simulation_of
from wmh.settings import Simulation

SIMULATION = Simulation(
    training={"singapore_siemens_3t": 1}, test={"amsterdam_ge_3t": 1}, in_plane_coarsening=8
)
IMAGES = ("orig/FLAIR", "orig/T1", "pre/FLAIR", "pre/T1", "wmh", "regions")


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.nii.gz"))
    }


def written(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.nii.gz"))}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    simulate_cohort(folder, SIMULATION, seed=5, jobs=2)
    return folder


def test_the_layout_is_the_challenges(cohort):
    places = [f"training/Singapore/0/{i}.nii.gz" for i in IMAGES]
    places += [f"test/Amsterdam/GE3T/1/{i}.nii.gz" for i in IMAGES]
    assert sorted(hashes(cohort)) == sorted(places)


def test_the_cohort_is_found_and_passes_the_checks(cohort):
    rows = [read_subject(Found(subject))[0] for subject in find_challenge(cohort)]
    assert {(r.subject.id, r.subject.split, r.subject.scanner) for r in rows} == {
        ("0", "training", "singapore_siemens_3t"),
        ("1", "test", "amsterdam_ge_3t"),
    }
    assert all(row.usable and row.lesion_ml > 0 for row in rows)


def test_lesion_labels_are_stored_as_floats(cohort):
    file = nib.load(cohort / "training/Singapore/0/wmh.nii.gz")
    assert file.get_data_dtype() == np.float32
    assert set(np.unique(file.dataobj)) <= {0, 1, 2}


def test_statistics_are_kept_for_every_subject(cohort):
    table = read_statistics(cohort)
    assert list(table["id"]) == ["0", "1"]
    for subject in find_challenge(cohort):
        row = table.set_index("id").loc[subject.id]
        assert row["lesion_ml"] == pytest.approx(
            read_subject(Found(subject))[0].lesion_ml, abs=1e-3
        )


def test_a_finished_cohort_is_left_alone_and_a_missing_subject_is_made_again(cohort):
    before, times = hashes(cohort), written(cohort)
    simulate_cohort(cohort, SIMULATION, seed=5)
    assert written(cohort) == times

    subject = cohort / "test/Amsterdam/GE3T/1"
    (subject / "simulated.json").write_text("{}")  # as if the run had been killed while writing it
    (subject / "pre/T1.nii.gz").unlink()
    simulate_cohort(cohort, SIMULATION, seed=5, jobs=1)
    assert hashes(cohort) == before
    kept = "training/Singapore/0/pre/T1.nii.gz"
    assert written(cohort)[cohort / kept] == times[cohort / kept]


def test_another_seed_makes_the_subjects_anew_and_removes_those_not_planned(cohort, tmp_path):
    folder = tmp_path / "cohort"
    simulate_cohort(folder, SIMULATION, seed=5, jobs=1)
    assert hashes(folder) == hashes(cohort)  # and whatever the number of processes
    fewer = Simulation(
        training={"singapore_siemens_3t": 1}, test={"amsterdam_ge_1p5t": 1}, in_plane_coarsening=8
    )
    simulate_cohort(folder, fewer, seed=6)
    assert {s.scanner for s in find_challenge(folder)} == {
        "singapore_siemens_3t",
        "amsterdam_ge_1p5t",
    }
    image = "training/Singapore/0/pre/FLAIR.nii.gz"
    assert hashes(folder)[image] != hashes(cohort)[image]


def test_subjects_that_were_not_simulated_are_never_touched(tmp_path):
    real = tmp_path / "training/Utrecht/17"
    (real / "pre").mkdir(parents=True)
    (real / "wmh.nii.gz").write_bytes(b"a rater's work")
    with pytest.raises(CohortError, match=r"17: was not simulated\. Choose another folder"):
        simulate_cohort(tmp_path, SIMULATION, seed=5)
    assert (real / "wmh.nii.gz").exists()


def test_a_folder_of_ones_own_images_is_not_simulated_into(tmp_path):
    (tmp_path / "sub-01/anat").mkdir(parents=True)
    with pytest.raises(CohortError, match=r"sub-01: was not simulated.*set cohort\.source"):
        simulate_cohort(tmp_path, SIMULATION, seed=5)
    assert not (tmp_path / "training").exists()


def test_an_unknown_scanner_is_named():
    with pytest.raises(CohortError, match=r"training: unknown scanner 'Utrecht'; use one of "):
        plan_cohort(Simulation(training={"Utrecht": 2}, test={"Utrecht": 1}), seed=1)


def test_ids_are_numbers_that_occur_once():
    plan = plan_cohort(simulation_of(20), seed=1)
    assert sorted(int(subject.id) for subject in plan) == list(range(20))
    assert len({subject.seed for subject in plan}) == 20


def test_33_subjects_are_18_to_train_on_and_15_to_test_on():
    simulation = simulation_of(33, 2)
    assert simulation.training == dict.fromkeys(
        ("utrecht_philips_3t", "singapore_siemens_3t", "amsterdam_ge_3t"), 6
    )
    assert len(simulation.test) == 5
    assert set(simulation.test.values()) == {3}
    with pytest.raises(CohortError, match="7 subjects are too few"):
        simulation_of(7)


def test_the_command_simulates_nobody_for_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    result = CliRunner().invoke(app, ["simulate", str(tmp_path / "notes.txt")])
    assert isinstance(result.exception, ImageError)
    assert "notes.txt: is a file, not a folder" in str(result.exception)
