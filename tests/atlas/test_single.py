"""One scan labelled, and any atlas carried onto any white matter, as a user types it."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.atlas.heads import displacement, moved
from wmh.atlas.regions import REGION_LABELS, built_in_atlas, mni_white_matter, region_dice
from wmh.cli import app
from wmh.images import load_image, load_labels, same_grid, save_image


def regions(*words: object):
    return CliRunner().invoke(app, ["regions", *map(str, words)])


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A folder with a moved head: T1, white matter and true labels; and an atlas with its own."""
    folder = tmp_path_factory.mktemp("head")
    t1, white, truth = moved(displacement((5, 4, -6), (10, 5, -8), (0.95, 1, 0.9)))
    for name, image in (
        ("T1", t1),
        ("white", white),
        ("truth", truth),
        ("lesions", replace(white, data=(white.data > 0.5).astype(np.uint8))),
        ("atlas_white", mni_white_matter(2)),
        ("atlas", built_in_atlas(2)),
    ):
        save_image(folder / f"{name}.nii.gz", image.data, image)
    return folder


def mean_dice(head, labels) -> float:
    truth = load_labels(head / "truth.nii.gz")
    return float(np.nanmean(region_dice(truth.data, labels.data)[list(REGION_LABELS)]))


def test_a_t1_is_labelled_on_its_own_grid(head, tmp_path):
    out = tmp_path / "regions.nii.gz"
    done = regions("--t1", head / "T1.nii.gz", "--out", out, "--method", "affine")
    assert done.exit_code == 0, done.output
    assert "regions.nii.gz: atlas registered, white-matter Dice 0." in done.stdout
    assert "border contrast 2.0" in done.stdout and not done.stderr
    labels = load_labels(tmp_path / "regions.nii.gz", range(37))
    assert same_grid(labels, load_image(head / "T1.nii.gz"))
    assert mean_dice(head, labels) > 0.6


def test_the_general_model_labels_what_is_given(head, tmp_path):
    labels = {}
    for given in (["--t1"], ["--flair"], ["--t1", "--lesions"]):
        out = tmp_path / "regions.nii.gz"
        names = {"--t1": "T1", "--flair": "T1", "--lesions": "lesions"}
        words = [w for option in given for w in (option, head / f"{names[option]}.nii.gz")]
        done = regions(*words, "--out", out)
        assert done.exit_code == 0, done.output
        assert "regions.nii.gz: regions labelled by the general model" in done.stdout
        assert ("border contrast" in done.stdout) == ("--t1" in given)
        labels[given[-1]] = load_labels(out, range(37))
    assert same_grid(labels["--t1"], load_image(head / "T1.nii.gz"))
    assert mean_dice(head, labels["--t1"]) > 0.5
    white = load_image(head / "white.nii.gz").data > 0.5
    held = {name: (found.data[white] > 0).mean() for name, found in labels.items()}
    assert held["--lesions"] > held["--t1"]


def test_a_name_that_is_no_images_is_refused_before_any_work(head, tmp_path):
    done = regions("--t1", head / "T1.nii.gz", "--out", tmp_path / "regions")
    assert "Let the name end in .nii.gz" in str(done.exception)


def test_any_atlas_is_carried_onto_a_mask_and_stays_inside(head, tmp_path):
    masks = [
        *("--white-matter", head / "white.nii.gz"),
        *("--atlas-white-matter", head / "atlas_white.nii.gz"),
        *("--atlas-labels", head / "atlas.nii.gz"),
    ]
    done = regions(*masks, "--out", tmp_path / "regions.nii.gz")
    assert done.exit_code == 0, done.output
    labels, white = load_labels(tmp_path / "regions.nii.gz"), load_image(head / "white.nii.gz")
    assert same_grid(labels, white)
    np.testing.assert_array_equal(labels.data > 0, white.data > 0.5)
    assert mean_dice(head, labels) > 0.8


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("--t1", "T1", "--white-matter", "white"),
        ("--white-matter", "white", "--atlas-labels", "atlas"),
        ("--flair", "T1", "--method", "affine"),
    ],
)
def test_a_t1_or_three_masks_are_wanted_and_no_mixture(head, tmp_path, given):
    files = [head / f"{w}.nii.gz" if (head / f"{w}.nii.gz").is_file() else w for w in given]
    refused = regions(*files, "--out", tmp_path / "regions.nii.gz")
    assert refused.exit_code == 2
    assert "give --t1, --flair or both" in refused.stderr
    assert not (tmp_path / "regions.nii.gz").exists()
